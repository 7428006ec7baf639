#!/bin/sh
# Prints the version of the source, in the form of PEP 440: the last number in packaging/releases; behind it, except in
# the commit of a release, the commits since the number was set, and the commit (0.1.0+12.g0123456789ab).
# `git archive` fills in two lines, so that a tree without git knows its commit, but not the number of commits.
set -eu
cd "$(dirname "$0")/.."
number=$(sed -n '$s/ .*//p' packaging/releases)
commit='$Format:%H$'
subject='$Format:%f$'
since=0
case $commit in
*%*)
    commit=$(git log -1 --format=%H 2>/dev/null) || commit=none
    subject=$(git log -1 --format=%f 2>/dev/null) || subject=
    set_by=$(git log -1 --format=%H -- packaging/releases 2>/dev/null) || set_by=
    [ -z "$set_by" ] || since=$(git rev-list --count "$set_by..HEAD")
    ;;
esac
case "$number $subject $since" in
*+* | "$number release-$number 0") echo "$number" ;;
*) echo "$number+$since.g$(echo "$commit" | cut -c 1-12)" ;;
esac
