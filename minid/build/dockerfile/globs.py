"""``*`` and ``?`` in the patterns of ``${NAME#pattern}`` and its like; a backslash makes the next character literal.

Positions are simulated together, so that no pattern takes more than pattern times value steps from one start.
"""

_STAR, _ANY = object(), object()


def escaped(text: str) -> str:
    """``text`` as a pattern that matches only itself."""
    return "".join("\\" + character if character in "*?\\" else character for character in text)


def without(value: str, pattern: str, modifier: str) -> str:
    """``value`` without what ``pattern`` matches at its beginning (``#``, ``##``) or end (``%``, ``%%``)."""
    tokens = _tokens(pattern)
    longest = len(modifier) == 2
    if modifier[0] == "#":
        ends = _ends(tokens, value)
        return value[(ends[-1] if longest else ends[0]) :] if ends else value
    ends = _ends(tokens[::-1], value[::-1])
    return value[: len(value) - (ends[-1] if longest else ends[0])] if ends else value


def replaced(value: str, pattern: str, replacement: str, every: bool) -> str:
    """``value`` with the first match, or every match, of ``pattern`` replaced; a match is as long as can be."""
    tokens = _tokens(pattern)
    if not value:
        return (
            replacement if tokens and _ends(tokens, value) else value
        )  # as bash: ``*`` matches nothing, too
    result: list[str] = []
    position = 0
    while position < len(value):
        ends = [end for end in _ends(tokens, value[position:]) if end]
        if not ends:
            result.append(value[position])
            position += 1
            continue
        result.append(replacement)
        position += ends[-1]
        if not every:
            break
    return "".join(result) + value[position:]


def _tokens(pattern: str) -> list[object]:
    tokens: list[object] = []
    characters = iter(pattern)
    for character in characters:
        if character == "\\":
            tokens.append(next(characters, "\\"))
        elif character == "*":
            tokens.append(_STAR)
        else:
            tokens.append(_ANY if character == "?" else character)
    return tokens


def _ends(tokens: list[object], text: str) -> list[int]:
    """The lengths of all beginnings of ``text`` that the whole pattern matches, ascending."""
    states = _beyond_stars(tokens, {0})
    ends = [0] if len(tokens) in states else []
    for position, character in enumerate(text, 1):
        following = set()
        for state in states:
            if state == len(tokens):
                continue
            token = tokens[state]
            if token is _STAR:
                following.add(state)
            elif token is _ANY or token == character:
                following.add(state + 1)
        states = _beyond_stars(tokens, following)
        if not states:
            break
        if len(tokens) in states:
            ends.append(position)
    return ends


def _beyond_stars(tokens: list[object], states: set[int]) -> set[int]:
    reached = set(states)
    for state in states:
        position = state
        while position < len(tokens) and tokens[position] is _STAR:
            position += 1
            reached.add(position)
    return reached
