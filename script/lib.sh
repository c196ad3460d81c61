# shellcheck shell=bash
# What the scripts share. Sourced, never run: `source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"`.

# The project's root, whatever the caller's working directory is.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# Where cargo builds.
# shellcheck disable=SC2034 # read by the scripts that source this file
target=${CARGO_TARGET_DIR:-$root/target}

# One line on stderr, so that stdout stays the program's own.
say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# Says why, and ends with the code (default 1).
die() {
  say "$1"
  exit "${2:-1}"
}

have() { command -v "$1" >/dev/null 2>&1; }

# A toolchain that was just installed is often not in this shell's PATH yet.
if ! have cargo && [[ -x ${HOME:-}/.cargo/bin/cargo ]]; then PATH=$PATH:$HOME/.cargo/bin; fi
