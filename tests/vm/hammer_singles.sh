#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The hammer where memory is scattered: what is true of folios is true of single pages.
exec ./hammer 10 scattered
