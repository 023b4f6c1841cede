# Shell functions that install/demo.sh and tests/run.sh share: what they need from the system, and
# the build. Nothing is installed without a line that says so.

say() { printf '==> %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

need_root() {
  [ "$(id -u)" = 0 ] || die "$1 makes network namespaces: run it as root"
}

# need PACKAGE=FILE...: installs each Debian package of which FILE (a command's name or a path) is missing.
need() {
  local pair missing=()
  for pair in "$@"; do
    command -v "${pair#*=}" >/dev/null || [ -e "${pair#*=}" ] || missing+=("${pair%%=*}")
  done
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null || die "missing, and no apt-get to install it with: ${missing[*]}"
  say "installing with apt-get: ${missing[*]}"
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
}

# The reference CNI plugins, in the first place that has them.
cni_plugins() {
  local dir
  for dir in /usr/lib/cni /opt/cni/bin; do
    [ -x "$dir/bridge" ] && { echo "$dir"; return; }
  done
  return 1
}

need_cni_plugins() {
  cni_plugins >/dev/null || need containernetworking-plugins=/usr/lib/cni/bridge
}

rust_is_new_enough() {
  local have
  have=$(rustc --version 2>/dev/null | awk '{print $2}') || return 1
  command -v cargo >/dev/null && [ -n "$have" ] &&
    [ "$(printf '%s\n' "$RUST_WANTED" "$have" | sort -V | head -n1)" = "$RUST_WANTED" ]
}

# A Rust toolchain that is new enough: the one in the path, rustup's, or rustup from the distribution.
need_rust() {
  RUST_WANTED=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  [ -x "$HOME/.cargo/bin/cargo" ] && PATH="$HOME/.cargo/bin:$PATH"
  rust_is_new_enough && return
  if ! command -v rustup >/dev/null && command -v apt-get >/dev/null; then
    apt-get -qq update
    if apt-cache show rustup >/dev/null 2>&1; then
      say "installing with apt-get: rustup"
      DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install rustup >/dev/null
    fi
  fi
  if command -v rustup >/dev/null; then
    say "installing with rustup: the stable toolchain"
    rustup toolchain install stable --profile minimal --component clippy --component rustfmt
    export RUSTUP_TOOLCHAIN=stable
    hash -r
  fi
  rust_is_new_enough || die "Rust $RUST_WANTED or newer is needed, and this system offers none:
  install it as https://rustup.rs says, and run this again"
}

# Builds the plugin and sets BINARY to where it is.
build() {
  say "building egressway"
  cargo build --locked --quiet || die "egressway does not build"
  BINARY=$(realpath "${CARGO_TARGET_DIR:-target}")/$(rustc -vV | sed -n 's/^host: //p')/debug/egressway
  [ -x "$BINARY" ] || die "cargo built no $BINARY"
  # Made of the program's own definitions, so by the program: a build script would have to compile it twice.
  "$BINARY" man --out "$(dirname "$BINARY")/man" || die "cannot make the manual pages"
}
