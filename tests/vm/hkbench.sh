#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# hkbench's scenarios about memory, short: that they run to their end, and that what others read of them (a
# report, plots) is there.  What they measure is make bench's, but for what no machine makes slower: nobody is
# killed, and nothing is wrong, while there is idle memory on the device.
set -u
# shellcheck source=tests/vm/tap
. ./tap

# each RESULT of FILE has every KEY
keys()
{
	file=$1
	shift
	all=$(grep -o '"backend":' "$file" | wc -l)
	[ "$all" -gt 0 ] || echo "no result"
	for key; do
		n=$(grep -o "\"$key\":" "$file" | wc -l)
		[ "$n" = "$all" ] || echo "$key: $n times in $all results"
	done
}

# Every line of a CSV has as many fields as its first; and there is more than that.
whole()
{
	awk -F, 'NR == 1 { n = NF } NF != n { print "line " NR ": " NF " fields of " n }
		END { if (NR < 2 || n < 2) print NR " lines of " n " fields" }' "$1"
}

# hkbench SCENARIO OPTION...
hkbench()
{
	name=$1
	shift
	/bin/hkbench -q -s "$name" "$@" --json="$name.json" --csv="$name.csv" --report="$name.txt" >"$name.out" 2>&1
}

echo "TAP version 13"
echo "1..7"
hkbench pressure --runs=1 -b region,free-thp
result "pressure runs" pressure.out
keys pressure.json scenario stopped oom_kills ms_to_get slots_idle slots_kept slots_taken slots_corrupted >said
[ ! -s said ]
result "pressure says what it has seen" said
[ "$(grep -cE '^  region(, owners (running|stopped): OOM kills|: slots corrupted, or lost in use) .* met ' pressure.txt)" = 3 ]
result "nobody is killed for want of memory that is idle, and nothing is wrong" pressure.txt
whole pressure.csv >said && [ ! -s said ] && grep -q '^  region' pressure.txt
result "pressure has rows and a table" said
hkbench idle -b region
result "idle runs" idle.out
keys idle.json scenario stopped at_ms rss_kib mem_available_kib returned_percent >said
[ ! -s said ]
result "idle says what it has seen" said
whole idle.csv >said && [ ! -s said ] && grep -q '^  region' idle.txt
result "idle has rows and a table" said
exit $bad
