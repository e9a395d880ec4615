# SPDX-License-Identifier: MIT
#
# hakmem_region: one make for the library, the tools, the kernel module and all tests.
#
# How the pieces fit (for whoever writes a fragment, <dir>/build.mk):
#
#   - There is no configure and no recursive make.  Each directory has a build.mk that this file
#     includes; paths in it are relative to the top.
#   - Everything that is written goes under $(B).  Always write $(B)/..., never build/...: the
#     static checks build all user code a second time with another B.
#   - A recipe shows one short line, and the command itself only with V=1:
#
#	$(B)/foo: $(B)/obj/tools/foo.o $(B)/libhakmem.a
#		$(call say,LD,$@)
#		$(Q)$(CC) $(HK_LDFLAGS) $(LDFLAGS) -o $@ $^
#
#   - $(B)/obj/%.o is made from %.c by the rule below, with dependencies (-MMD -MP) read back by this
#     file; extra flags by target: $(B)/obj/userlib/%.o: HK_CFLAGS += -fPIC -fvisibility=hidden
#     (object files that are built in two ways need a rule of their own).
#   - Fragments append to these lists:
#	LIB		files that `make lib` builds
#	TOOLS		files that `make tools` builds
#	TEST_PROGS	user-space test programs that `make tests` builds
#	SUITES		names of test suites: `foo` needs a target check-foo
#	DEBUG_SUITES	those that take a kernel of their own; `make check` leaves them out
#	TAPS_foo	the files that suite foo must leave, $(B)/check/<something>.tap, in TAP
#	INSTALL		phony targets that `make install` runs
#   - A suite's own output is progress for the eye.  What counts is its TAP: tests/summary prints
#     every result from there.  A missing or incomplete TAP file is a failure, and so is a SKIP
#     that tests/skips.txt does not list.
#   - A target gets into `make help` by a comment: `name: ## what it does`.

MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:

B	?= build
V	?= 0
PREFIX	?= /usr/local
QUICK	?= 0
export QUICK

VERSION	:= 0.1.0

ifeq ($(V),1)
Q	:=
say	 =
else
Q	:= @
say	 = @printf '  %-7s %s\n' '$(1)' '$(2)'
endif

ifeq ($(origin CC),default)
CC	:= gcc
endif
ifeq ($(origin AR),default)
AR	:= ar
endif

# CFLAGS, CPPFLAGS and LDFLAGS are the user's; the project's own come before them.
CFLAGS		?=
HK_CPPFLAGS	:= -Iuapi -Iuserlib/include -D_GNU_SOURCE
HK_CFLAGS	:= -std=gnu11 -O2 -g -Wall -Wextra
HK_LDFLAGS	:=
ifeq ($(WERROR),1)
HK_CFLAGS	+= -Werror
endif

LIB		:=
TOOLS		:=
TEST_PROGS	:=
SUITES		:=
DEBUG_SUITES	:=
INSTALL		:=

# The kernels that everything is built for and tested on.
KERNELS		:= 6.1 6.12

# What the kernel's own source provides to tests: -I$(KSELFTEST) finds kselftest_harness.h.  Files
# that include it need an order-only prerequisite on $(KSELFTEST)/kselftest_harness.h.
KSELFTEST	:= build/ktree/6.1/tools/testing/selftests

# Objects follow a change of flags, not only of files.
FLAGS_NOW := $(CC) $(HK_CPPFLAGS) $(CPPFLAGS) $(HK_CFLAGS) $(CFLAGS)
$(B)/.flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(FLAGS_NOW)' | cmp -s - $@ || printf '%s\n' '$(FLAGS_NOW)' > $@

$(B)/obj/%.o: %.c $(B)/.flags
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(HK_CPPFLAGS) $(CPPFLAGS) $(HK_CFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

include userlib/build.mk
include tools/hkbench/build.mk
include kmod/build.mk
include tests/static/build.mk
include tests/model/build.mk
include tests/native/build.mk
include tests/programs/build.mk
include tests/vm/build.mk
include tests/debug/build.mk

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)

all: lib tools kmod ## library, tools, and the module for each kernel whose headers are installed
lib: $(LIB) ## libhakmem
tools: $(TOOLS) ## hkbench
tests: $(TEST_PROGS) ## test programs, without running them

# Suites run one after another, each to its end whatever the others did: the summary decides.
check: suites = $(SUITES) ## tests: static, model, native, programs, VM on both kernels; the last line is the total
check-debug: suites = $(DEBUG_SUITES) ## the VM tests on a kernel with KASAN and lockdep, which is built once (5 to 10 minutes)
check-all: suites = $(SUITES) $(DEBUG_SUITES) ## every test: check and check-debug, with one total
check check-debug check-all:
	@rm -rf $(B)/check
	@mkdir -p $(B)/check
	+@for s in $(suites); do $(MAKE) --no-print-directory check-$$s || :; done
	@sh tests/summary $(foreach s,$(suites),$(or $(TAPS_$(s)),$(B)/check/$(s).tap))

bench: lib tools kmod ## the benchmark, natively and in the VM on each kernel (QUICK=1: a short one)
	$(Q)B=$(B) KERNELS='$(KERNELS)' sh tools/hkbench/bench

shell: kmod tools ## a prompt in the VM with the module loaded (KERNEL=6.12)
	$(Q)sh tools/vm/run --kernel $(or $(KERNEL),6.12) --shell \
		--module $(B)/kmod/$(or $(KERNEL),6.12)/hakmem_region.ko --put $(B)/hkbench:/bin/hkbench

install: $(INSTALL) ## into $(DESTDIR)$(PREFIX)

clean: ## remove what was built (downloads stay in the cache)
	$(Q)rm -rf $(B)

help: ## this list
	@awk -F':.*## ' '/^[a-z][a-z0-9-]*:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  V=1 shows commands; CC, CFLAGS, LDFLAGS, DESTDIR and PREFIX as usual'
	@echo '  sh tools/hk check|bench|shell|deps installs what is missing (Debian 12), then runs make'

FORCE:
.PHONY: FORCE all lib tools tests check check-debug check-all bench shell install clean help $(INSTALL)
