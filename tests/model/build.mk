# SPDX-License-Identifier: GPL-2.0
#
# Suite model: the protocol between owners, takers and the mm core, searched by spin.

SUITES += model
TAPS_model := $(B)/check/model.tap

check-model: ## every interleaving of a model of the slot protocol, and bugs planted in it
	$(Q)CC='$(CC)' sh tests/model/run $(B)

.PHONY: check-model
