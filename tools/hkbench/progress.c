// SPDX-License-Identifier: MIT
/* One line on a terminal, gone when the tables come. Nothing anywhere else. */

#include <string.h>
#include <unistd.h>

#include "hkbench.h"

#define WIDTH 30

static double total, before, step;
static uint64_t step_start;
static bool shown;

void hb_progress_begin(double total_seconds)
{
	total = total_seconds;
	before = step = 0;
	shown = isatty(STDERR_FILENO);
}

void hb_progress_step(double seconds)
{
	before += step;
	step = seconds;
	step_start = hb_now_ns();
}

void hb_progress(const char *what)
{
	double in_step = (double)(hb_now_ns() - step_start) / 1e9;
	double done = before + (in_step < step ? in_step : step);
	char bar[WIDTH + 1];
	int full;

	if (!shown || total <= 0)
		return;
	full = (int)(done / total * WIDTH);
	full = full > WIDTH ? WIDTH : full;
	memset(bar, '.', WIDTH);
	memset(bar, '#', (size_t)full);
	bar[WIDTH] = '\0';
	fprintf(stderr, "\r[%s] %3d%%  %-32.32s", bar,
		(int)(done / total * 100), what);
}

void hb_progress_end(void)
{
	if (shown)
		fprintf(stderr, "\r%*s\r", WIDTH + 42, "");
	shown = false;
}
