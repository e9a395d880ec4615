// SPDX-License-Identifier: MIT
/*
 * The environment, and the library's few words on stderr.
 *
 * Messages go out in one write(), without stdio: they may be sent while the
 * program is inside stdio itself, and never change errno.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "env.h"
#include "sys.h"

void hkm_message(const char *fmt, ...)
{
	static const char prefix[] = "libhakmem: ";
	char line[320];
	size_t len = sizeof(prefix) - 1;
	va_list args;
	int n;

	memcpy(line, prefix, len);
	va_start(args, fmt);
	n = vsnprintf(line + len, sizeof(line) - len - 1, fmt, args);
	va_end(args);
	if (n < 0)
		return;

	len += (size_t)n;
	if (len > sizeof(line) - 2)
		len = sizeof(line) - 2;
	line[len++] = '\n';
	hkm_sys_write_stderr(line, len);
}

static const char *const names[] = {
#define V(name) #name,
	HKM_ENV_VARIABLES(V)
#undef V
};

/* True the first time a variable is complained about. */
static bool first_complaint(enum hkm_env var)
{
	static bool complained[HKM_ENV_NR];

	return !__atomic_exchange_n(&complained[var], true, __ATOMIC_RELAXED);
}

int hkm_env_choice(enum hkm_env var, const char *const *words, int def)
{
	const char *value = secure_getenv(names[var]);
	char list[64] = "";
	size_t len = 0;

	if (!value)
		return def;
	for (int i = 0; words[i]; i++) {
		if (!strcmp(value, words[i]))
			return i;
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s",
					i ? ", " : "", words[i]);
	}
	if (first_complaint(var))
		hkm_message("%s=%.64s is not one of %s; using %s", names[var],
			    value, list, words[def]);
	return def;
}

bool hkm_env_flag_or(enum hkm_env var, bool def)
{
	static const char *const words[] = { "0", "1", NULL };

	return hkm_env_choice(var, words, def);
}

bool hkm_env_flag(enum hkm_env var)
{
	return hkm_env_flag_or(var, false);
}

bool hkm_verbose(void)
{
	return hkm_env_flag(HAKMEM_VERBOSE);
}

/* Not strtoul(): it takes blanks and signs, and reports in errno. */
static const char *read_number(const char *text, size_t max, size_t *number)
{
	const char *p;

	*number = 0;
	for (p = text; *p >= '0' && *p <= '9' && *number <= max; p++)
		if (__builtin_mul_overflow(*number, 10, number) ||
		    __builtin_add_overflow(*number, (size_t)(*p - '0'), number))
			return text;
	return p;
}

int hkm_env_number(enum hkm_env var, size_t min, size_t max, size_t def,
		   size_t *value)
{
	const char *text = secure_getenv(names[var]), *end;
	size_t number;

	*value = def;
	if (!text)
		return 0;
	end = read_number(text, max, &number);
	if (end > text && !*end && number >= min && number <= max) {
		*value = number;
		return 0;
	}
	if (first_complaint(var))
		hkm_message("%s=%.64s is not a number from %zu to %zu; using %zu",
			    names[var], text, min, max, def);
	return -EINVAL;
}

static unsigned int unit_shift(char unit)
{
	switch (unit) {
	case 'k':
	case 'K':
		return 10;
	case 'm':
	case 'M':
		return 20;
	case 'g':
	case 'G':
		return 30;
	default:
		return 0;
	}
}

int hkm_env_bytes_or(enum hkm_env var, const char *word, size_t min, size_t max,
		     size_t def, size_t *value)
{
	const char *text = secure_getenv(names[var]), *end;
	size_t number;
	unsigned int shift;

	*value = def;
	if (!text)
		return 0;
	if (word && !strcmp(text, word))
		return 1;
	end = read_number(text, max, &number);
	shift = unit_shift(*end);
	if (end > text && !end[shift > 0] && number <= max >> shift &&
	    number << shift >= min) {
		*value = number << shift;
		return 0;
	}
	if (first_complaint(var))
		hkm_message("%s=%.64s is not %s%sa number of bytes from %zu to %zu, with K, M or G or without; using %zu",
			    names[var], text, word ?: "", word ? " or " : "",
			    min, max, def);
	return -EINVAL;
}

int hkm_env_bytes(enum hkm_env var, size_t min, size_t max, size_t def,
		  size_t *value)
{
	return hkm_env_bytes_or(var, NULL, min, max, def, value);
}

int hkm_env_slots(size_t *slots)
{
	return hkm_env_number(HAKMEM_WHALE_SLOTS, 1, HKM_SLOTS_MAX,
			      HKM_SLOTS_DEFAULT, slots);
}
