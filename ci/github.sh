#!/usr/bin/env bash
# What action.yml runs: trials with annotations, then every report, then the step summary. The
# result's exit code is the step's. Reads INPUT_SELECTORS and INPUT_PRODUCT (a word a line),
# INPUT_OUT, INPUT_AIRTIGHT; writes to GITHUB_OUTPUT and GITHUB_STEP_SUMMARY.
set -uo pipefail

airtight=${INPUT_AIRTIGHT:-$RUNNER_TEMP/airtight/bin/airtight}
out=${INPUT_OUT:-airtight}
words() { if [ -n "$1" ]; then printf '%s\n' "$1" | sed '/^$/d'; fi; }
mapfile -t selectors < <(words "${INPUT_SELECTORS:-}")
mapfile -t product < <(words "${INPUT_PRODUCT:-}")

# GitHub's runners forbid user namespaces without privileges, and allow sudo.
as=()
if [ "$(id -u)" != 0 ] && sudo -n true 2>/dev/null; then as=(sudo -n env "PATH=$PATH"); fi

arguments=(run --out "$out" --format github)
if [ ${#selectors[@]} -gt 0 ]; then arguments+=("${selectors[@]}"); fi
if [ ${#product[@]} -gt 0 ]; then arguments+=(-- "${product[@]}"); fi
ran=0
"${as[@]}" "$airtight" "${arguments[@]}" || ran=$?
# Usage, or a machine that cannot run it: whatever lies in the folder is no result of this run.
case $ran in 2 | 3) exit "$ran" ;; esac

reported=0
"${as[@]}" "$airtight" report "$out" || reported=$?
echo "out=$out" >>"$GITHUB_OUTPUT"
if [ -f "$out/summary.md" ]; then cat "$out/summary.md" >>"$GITHUB_STEP_SUMMARY"; fi
if [ "$ran" != 0 ]; then exit "$ran"; fi
exit "$reported"
