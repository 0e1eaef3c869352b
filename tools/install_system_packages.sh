#!/bin/sh
# Install what pip cannot: libraries for software rendering, and Python with venv where there is none.
#
# Does nothing when nothing is missing. Uses apt-get as root or through a sudo that asks for no password; otherwise it
# prints the command and goes on, because a suite without cameras needs no OpenGL. NO_APT=1 forbids apt-get. BROWSER=1 asks
# for Chromium, too, in which tests/report/test_browser.py opens the report.
#
# The same list is APT_PACKAGES in flowbench/doctor.py (tests/test_doctor.py compares them).
set -u
GL_PACKAGES="libegl1 libgl1 libopengl0 libgl1-mesa-dri libglib2.0-0"

has_library() {
    PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null | grep -q "$1"
}

# EGL's dispatch library draws nothing by itself: it needs a vendor, Mesa's or that of a GPU driver.
has_egl_vendor() {
    if has_library libEGL_mesa.so.0; then
        # Mesa keeps its rasteriser in swrast_dri.so, since 24.2 in libgallium.
        [ -n "$(find /usr/lib* -maxdepth 3 -name swrast_dri.so -o -name 'libgallium*' 2>/dev/null | head -n 1)" ]
    else
        has_library libEGL_nvidia.so.0
    fi
}

missing=""
if [ "$(uname -s)" = Linux ]; then
    for library in libEGL.so.1 libGL.so.1 libOpenGL.so.0 libgthread-2.0.so.0; do
        has_library "$library" || missing="$GL_PACKAGES"
    done
    has_egl_vendor || missing="$GL_PACKAGES"
fi
command -v make >/dev/null 2>&1 || missing="$missing make"
"${PYTHON:-python3}" -c 'import ensurepip, venv' >/dev/null 2>&1 || missing="$missing python3 python3-venv"

as_root=""
if [ "$(id -u)" != 0 ]; then
    as_root="sudo -n"
fi

# install PURPOSE PACKAGE...
install() {
    purpose="$1"
    shift
    if [ -z "${NO_APT:-}" ] && command -v apt-get >/dev/null 2>&1 && $as_root true >/dev/null 2>&1; then
        echo "Installing system packages: $*"
        if $as_root apt-get update -qq && $as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends "$@" >/dev/null; then
            return
        fi
        echo "apt-get failed." >&2
    fi
    echo "System packages are missing. Going on without them; $purpose, run as root:" \
        "apt-get update && apt-get install -y --no-install-recommends $*" >&2
}

# shellcheck disable=SC2086 # the list is meant to be split
[ -z "$missing" ] || install "to render" $missing

# By itself, because not every distribution has it under this name.
has_browser() {
    for name in chromium chromium-browser google-chrome; do
        command -v "$name" >/dev/null 2>&1 && return
    done
    return 1
}
if [ -n "${BROWSER:-}" ] && ! has_browser; then
    install "to test the report in a browser" chromium
fi
exit 0
