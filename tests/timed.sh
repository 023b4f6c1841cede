#!/bin/bash
# timed.sh BINARY ARGUMENTS...: runs a binary of tests so that it prints the seconds behind each test's result. To cargo,
# as a target's `runner`. Rust's test runner can do that, but says that this may change: so it is asked for here, and
# nothing else is built or run with what is not stable.
case $1 in
  */deps/*) RUSTC_BOOTSTRAP=1 exec "$@" -Z unstable-options --report-time ;;
  *) exec "$@" ;; # a document's example: no runner in it
esac
