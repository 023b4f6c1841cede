#!/bin/bash
# core.sh UNIT NETNS: runs the tests of core.txt with these two binaries of tests. To run in the virtual machine.
cd "$(dirname "$0")" || exit
export EGRESSWAY_PATIENCE=10 EGRESSWAY_CASES=4
status=0
# shellcheck disable=SC2046 # one word a test
{
  ../timed.sh "$1" --exact --test-threads=1 $(sed -n 's/#.*//; s/^unit:://p' core.txt) || status=1
  ../timed.sh "$2" --exact --test-threads=1 $(sed 's/#.*//; /^unit::/d' core.txt) || status=1
}
exit $status
