# Shell functions for packages of a Debian release that this machine need not be of: its package lists are kept in a
# directory of their own, and what is downloaded is unpacked, never installed. Needs apt and debian-archive-keyring.

# The mirror of Debian that this machine's apt is set up with, or else the one that everybody has.
debian_mirror() {
  local mirror=${DEBIAN_MIRROR:-}
  [ -n "$mirror" ] || mirror=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 2>/dev/null |
    awk '$1 == "Debian" && $2 == "Debian" { print $3; exit }')
  echo "${mirror:-http://deb.debian.org/debian}"
}

# debian_lists DIR SUITE TYPES: fetches the package lists of SUITE into DIR. TYPES is deb, or deb and deb-src.
# `debian apt-get ...` and `debian apt-cache ...` then know these lists and no others.
debian_lists() {
  local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  [ -e $keyring ] || { echo "$keyring is missing (package: debian-archive-keyring)" >&2; return 1; }
  debian_dir=$(realpath "$1")
  mkdir -p "$debian_dir"/{parts,lists/partial,cache/archives/partial}
  cat >"$debian_dir/parts/debian.sources" <<E2
Types: $3
URIs: $(debian_mirror)
Suites: $2
Components: main
Signed-By: $keyring
E2
  debian apt-get update
}

debian() {
  local tool=$1
  shift
  $tool -q=2 -o APT::Sandbox::User=root -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$debian_dir/parts" \
    -o Dir::State::lists="$debian_dir/lists" -o Dir::Cache="$debian_dir/cache" "$@"
}
