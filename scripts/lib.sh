# Sourced by the scripts beside it: the checkout's root, its virtual environment, what is in it.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A run must not depend on what the caller's shell happens to export.
unset PYTHONPATH PYTHONHOME ${!EDGEC_@}
export PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore

say() { printf '== %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# find_python [MODULE]: the newest Python 3.11-3.13 that starts and, if asked, has MODULE.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        if "$candidate" -c "
import sys${1:+, $1}
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# apt_install PACKAGE...: as root, install; otherwise say the line and stop.
apt_install() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        die "missing: $*
  sudo apt-get install $*"
    fi
    say "apt-get install $*"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# make_venv: .venv with a working pip; a half-made one is made anew.
make_venv() {
    .venv/bin/python -m pip --version >/dev/null 2>&1 && return
    local python
    if ! python=$(find_python ensurepip); then
        if python=$(find_python); then
            apt_install "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
        else
            apt_install python3 python3-venv
        fi
        python=$(find_python ensurepip) ||
            die "edgec needs Python 3.11, 3.12 or 3.13 with the venv module; set PYTHON to one"
    fi
    say "make .venv with $python"
    "$python" -m venv --clear .venv
    .venv/bin/python -m pip install -qq --upgrade -c constraints.txt pip
}

# install_edgec [EXTRA]: an editable install with the tested pins; at once when nothing changed.
install_edgec() {
    local extra=${1:-} key stamp
    stamp=.venv/installed-${extra:-base}
    key=$(cat pyproject.toml constraints.txt | sha256sum)
    if [ -f "$stamp" ] && [ "$(<"$stamp")" = "$key" ]; then
        return
    fi
    say "install edgec${extra:+[$extra]}"
    if [ -n "$extra" ]; then
        # By name and version, before anything that depends on it: whoever needs torch later finds
        # this one and does not fetch another build.
        .venv/bin/python -m pip install -qq "$(grep '^torch==' constraints.txt)" -c constraints.txt
    fi
    .venv/bin/python -m pip install -qq -c constraints.txt -e ".${extra:+[$extra]}"
    printf '%s\n' "$key" >"$stamp"
}
