#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The hammer must see a module in which a fault locks the folio too late (settings loads the one that
# was built with HKR_PLANT_LATE_LOCK).  Else its silence about the real one would mean nothing.
echo "TAP version 13"
echo "1..1"
./hammer 30 >hammer.out 2>&1
sed 's/^/# hammer said: /' hammer.out
if grep -q '^not ok 2 ' hammer.out && grep -q '^ok 1 ' hammer.out; then
	echo "ok 1 planted late lock is caught"
else
	echo "not ok 1 planted late lock is caught"
	exit 1
fi
