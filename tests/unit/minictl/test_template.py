"""Go templates: expected texts are what Go's text/template and the docker CLI 28 print for the same data."""

from typing import Any

import pytest

from minictl.template import Template
from minictl.template_syntax import TemplateError

DATA: dict[str, Any] = {
    "Name": "/box",
    "Id": "0123456789abcdef",
    "Running": True,
    "Paused": False,
    "Count": 3,
    "Ratio": 1.5,
    "None": None,
    "Env": ["A=1", "B=2"],
    "Labels": {"b.x": "2", "a": "1"},
    "Empty": {},
    "Config": {"Cmd": ["sh", "-c"], "User": "", "Deep": {"er": [{"X": 1}, {"X": 2}]}},
    "Ports": {"80/tcp": [{"HostPort": "8080"}], "90/tcp": None},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{.Name}}", "/box"),
        ("{{ .Name }}-{{.Count}}", "/box-3"),
        ("{{.Running}} {{.Ratio}}", "true 1.5"),
        ("{{.Labels}} {{.Env}} {{.Empty}}", "map[a:1 b.x:2] [A=1 B=2] map[]"),
        ("{{.Config.Cmd}}", "[sh -c]"),
        ("{{.None}}", "<no value>"),
        ("a {{- .Count -}} b", "a3b"),
        ("a\n{{- /* note */ -}}\n b", "ab"),
        ("{{/* note */}}x", "x"),
        ("{{json .Labels}}", '{"b.x":"2","a":"1"}'),
        ("{{json .None}} {{json .Env}} {{json .Name}}", 'null ["A=1","B=2"] "/box"'),
        ("{{.Env | json}}", '["A=1","B=2"]'),
        ("{{index .Labels `b.x`}}", "2"),
        ('{{index .Labels "nope"}}|', "|"),
        ("{{index .Env 1}}", "B=2"),
        ('{{(index (index .Ports "80/tcp") 0).HostPort}}', "8080"),
        ('{{with index .Ports "80/tcp"}}{{(index . 0).HostPort}}{{end}}', "8080"),
        ("{{len .Env}} {{len .Name}} {{.Labels | len}}", "2 4 2"),
        ("{{slice .Id 0 4}} {{slice .Id 12}}", "0123 cdef"),
        ("{{upper .Name}} {{lower `ABC`}} {{title `one two`}}", "/BOX abc One Two"),
        ('{{join .Env ","}} {{split "a:b" ":"}}', "A=1,B=2 [a b]"),
        ('{{printf "%s=%d %q %v %5d|%-5s|%.2f %%" .Name .Count .Name .Env 7 "x" .Ratio}}',
         '/box=3 "/box" [A=1 B=2]     7|x    |1.50 %'),
        ('{{printf "%x" 255}} {{print 1 2 "a" "b" 3 4}}', "ff 1 2ab3 4"),
        ("{{println .Name .Count}}", "/box 3\n"),
        ("{{range .Env}}<{{.}}>{{end}}", "<A=1><B=2>"),
        ("{{range $i, $e := .Env}}{{$i}}:{{$e}} {{end}}", "0:A=1 1:B=2 "),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a=1;b.x=2;"),
        ("{{range $e := .Env}}{{$e}}{{$.Name}}{{end}}", "A=1/boxB=2/box"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range .None}}x{{else}}none{{end}}", "none"),
        ("{{range .Env}}{{.}}{{break}}{{end}}", "A=1"),
        ("{{range .Env}}{{continue}}x{{end}}", ""),
        ("{{range .Config.Deep.er}}{{.X}}{{end}}", "12"),
        ("{{if .Running}}up{{else}}down{{end}}", "up"),
        ("{{if .Paused}}p{{else if eq .Count 3}}three{{else}}no{{end}}", "three"),
        ("{{if not .Config.User}}root{{end}}", "root"),
        ("{{if and .Running (not .Paused)}}1{{end}}{{if or .Paused .Config.User}}2{{end}}", "1"),
        ("{{and 1 0 5}} {{or 0 `x`}}", "0 x"),
        ("{{eq .Count 1 2 3}} {{ne .Count 3}} {{lt 1 2}} {{le 2 2}} {{gt 1 2}} {{ge `b` `a`}}",
         "true false true true false true"),
        ("{{with .Config}}{{.Cmd}}{{end}}{{with .None}}x{{else}}y{{end}}", "[sh -c]y"),
        ("{{$x := .Count}}{{if true}}{{$x = 5}}{{end}}{{$x}}", "5"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
        ("{{(.Config).User}}|{{.Config.Cmd | len | printf `%03d`}}", "|002"),
        ('{{"quoted \\"x\\" \\u00e9\\n"}}', 'quoted "x" é\n'),
        ("{{'a'}} {{true}} {{1.50}} {{0x10}} {{-3}}", "97 true 1.5 16 -3"),
        ("{{html `<a>`}} {{urlquery `a b&c`}} {{pad `x` 1 2}}| {{truncate .Id 3}}", "&lt;a&gt; a+b%26c  x  | 012"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ("{{len .}}", "12"),
    ],
)  # fmt: skip
def test_render(template: str, text: str) -> None:
    assert Template(template).render(DATA) == text


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{.Foo}}", 'template: :1:2: executing "" at <.Foo>: map has no entry for key "Foo"'),
        (
            "{{.Config.Foo.Bar}}",
            'template: :1:9: executing "" at <.Config.Foo.Bar>: map has no entry for key "Foo"',
        ),
        ("{{.None.X}}", 'template: :1:7: executing "" at <.None.X>: nil pointer evaluating interface {}.X'),
        ("{{.Name.X}}", 'template: :1:7: executing "" at <.Name.X>: can\'t evaluate field X in type string'),
        (
            "{{index .Env 9}}",
            'template: :1:2: executing "" at <index .Env 9>: error calling index: index out of range: 9',
        ),
        ("{{.Name", "template: :1: unclosed action"),
        ("{{if .Name}}", "template: :1: unexpected EOF"),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ("{{foo .Name}}", 'template: :1: function "foo" not defined'),
        ("{{/* x", "template: :1: unclosed comment"),
        ("{{}}", "template: :1: missing value for command"),
        ("{{(.Name}}", "template: :1: unclosed left paren"),
        ('{{"x}}', "template: :1: unterminated quoted string"),
        ("{{$x}}", 'template: :1: undefined variable "$x"'),
        (
            "{{eq 1 `a`}}",
            'template: :1:2: executing "" at <eq 1 "a">: error calling eq: incompatible types for comparison',
        ),
    ],
)
def test_errors(template: str, reason: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(template).render(DATA)
    assert caught.value.message == f"template parsing error: {reason}"


def test_fields_that_an_answer_leaves_out_and_nulls_of_a_known_kind() -> None:
    template = Template("{{if .Health}}x{{else}}none{{end}} {{.Env}}", {"Health": None}, {"Env": "[]"})
    assert template.render({"Env": None}) == "none []"
