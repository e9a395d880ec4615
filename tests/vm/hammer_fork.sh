#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The hammer with children that share its slots.
exec ./hammer 8 forking
