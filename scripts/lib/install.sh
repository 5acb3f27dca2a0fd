# Putting minid's programs on a machine: what scripts/install, scripts/quickstart and scripts/package have in common.
# To be sourced, with `checkout` and `die` set; `destdir` (usually empty) goes before every path that is written.
# shellcheck shell=bash disable=SC2154

: "${destdir:=}" "${prefix:=/opt/minid}" "${bin:=/usr/local/bin}"
venv=$prefix/venv

# What an installed copy is made from: changes with any file of the project.
fingerprint() {
    (
        cd "$checkout" || exit
        /usr/bin/python3 --version
        find minid minictl minicerts pyproject.toml -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum
    ) | sha256sum | cut -d ' ' -f 1
}

# programs_are_current – whether the copy in $prefix is made from this checkout.
programs_are_current() {
    [ "$(cat "$destdir$prefix/fingerprint" 2>/dev/null)" = "$(fingerprint)" ] && "$destdir$venv/bin/python" -c '' 2>/dev/null
}

# install_programs RUNNER… – packages and documents in $prefix; RUNNER runs a command and shows its output if it fails.
install_programs() {
    local top=$destdir$prefix environment=$destdir$venv copy fresh=
    mkdir -p "$top"
    rm -f "$top/fingerprint"
    if ! "$environment/bin/python" -c 'import pip' 2>/dev/null; then
        rm -rf "$environment"
        "$@" /usr/bin/python3 -m venv "$environment"
        fresh=yes
    fi
    # From a copy: setuptools would leave build directories in the checkout.
    copy=$(mktemp -d)
    cp -r "$checkout"/{pyproject.toml,README.md,LICENSE,minid,minictl,minicerts} "$copy"
    "$@" "$environment/bin/python" -m pip install --disable-pip-version-check --no-input "$copy"
    # The same version again, so that pip replaces files that differ only in content; the dependencies are there.
    [ "$fresh" ] || "$@" "$environment/bin/python" -m pip install --disable-pip-version-check --no-input \
        --force-reinstall --no-deps "$copy"
    rm -rf "$copy"
    "$@" "$environment/bin/python" -m compileall -q ${destdir:+-f -s "$destdir"} "$environment/lib"
    mkdir -p "$top/doc"
    cp -r "$checkout"/{README.md,CHANGELOG.md,LICENSE,docs} "$top/doc/"
    if [ "$destdir" ]; then
        # What knows where it was made has to know where it will be.
        grep -rlIF "$environment" "$environment/bin" "$environment/pyvenv.cfg" | xargs -r sed -i "s|$environment|$venv|g"
    fi
    fingerprint >"$top/fingerprint"
}

# minictl needs nothing but the standard library and its own package, so it starts without `site` and past the venv:
# measured, 9 ms instead of 16 (the interpreter alone takes 7).
install_launchers() {
    local packages_directory interpreter
    interpreter=$("$destdir$venv/bin/python" -c 'import sys; print(sys._base_executable)')
    packages_directory=$("$destdir$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    mkdir -p "$destdir$bin"
    cat >"$destdir$prefix/minictl.new" <<PYTHON
#!$interpreter -IS
import sys

sys.path.append("${packages_directory#"$destdir"}")
from minictl.main import entry

entry()
PYTHON
    chmod 755 "$destdir$prefix/minictl.new"
    mv "$destdir$prefix/minictl.new" "$destdir$prefix/minictl"
    ln -sfn "$prefix/minictl" "$destdir$bin/minictl"
    ln -sfn "$venv/bin/minid" "$destdir$bin/minid"
    ln -sfn "$venv/bin/minid-certs" "$destdir$bin/minid-certs"
}

# remove_launchers – those that lead to $prefix.
remove_launchers() {
    local program
    for program in minid minictl minid-certs; do
        case $(readlink "$bin/$program") in
            "$prefix"/*) rm -f "${bin:?}/$program" ;;
        esac
    done
}

# unit_text UNIT – the unit as it is installed: with the place of the programs.
unit_text() { sed "s|/usr/local/bin/|$bin/|; s|/opt/minid/|$prefix/|" "$checkout/systemd/$1"; }

# install_units DIRECTORY – prints "changed" if one was.
install_units() {
    local unit
    mkdir -p "$destdir$1"
    for unit in minid.service minid.socket; do
        if ! unit_text "$unit" | cmp -s - "$destdir$1/$unit"; then
            unit_text "$unit" >"$destdir$1/$unit"
            chmod 644 "$destdir$1/$unit"
            echo changed
        fi
    done
}

has_systemd() { [ -d /run/systemd/system ]; }

# Nothing may be mounted below what is deleted: it would be deleted too.
remove_tree() {
    local point
    while read -r point; do
        umount -l "$point" || die "cannot unmount $point"
    done < <(awk -v top="$1/" 'index($5, top) == 1 { print $5 }' /proc/self/mountinfo | sort -r)
    if mountpoint -q "$1"; then
        find "$1" -xdev -mindepth 1 -delete # a disk of its own stays mounted
    else
        rm -rf --one-file-system "$1"
    fi
}
