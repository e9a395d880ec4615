/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HKR_HARNESS_H
#define HKR_HARNESS_H

/*
 * kselftest's harness, without its limit of 30 s for a test: how long one takes
 * depends on the kernel and on what emulates the machine. The limits of programs
 * are in settings, for each kernel.
 */
#include "../kselftest_harness.h"

#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 3600

#endif /* HKR_HARNESS_H */
