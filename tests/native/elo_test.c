// SPDX-License-Identifier: GPL-2.0
/*
 * Ratings of candidates from costs that are made up: no clock, no chance but a
 * seed.
 */
#include "elo.h"
#include "tap.h"

#define LEAST 100

/* ---- costs ------------------------------------------------------------------ */

static unsigned int best;	/* candidate */
static uint64_t noise;		/* a cost is off by up to so many per cent */
static uint64_t seed;
static unsigned int costs;	/* that were given */

static uint64_t noisy(uint64_t cost)
{
	if (!noise)
		return cost;
	return cost + cost * (next_random(&seed) % (2 * noise)) / 100 -
	       cost * noise / 100;
}

static uint64_t all_equal(unsigned int i)
{
	(void)i;
	return 100000;
}

/* a valley: a third more for each step away */
static uint64_t valley(unsigned int i)
{
	uint64_t cost = 100000;

	for (; i < best; i++)
		cost += cost / 3;
	for (; i > best; i--)
		cost += cost / 3;
	return cost;
}

/* blocks of one size: those up to best are whales, which is cheap */
static uint64_t cheap_up_to_best(unsigned int i)
{
	return i <= best ? 10000 : 100000;
}

static uint64_t dear_up_to_best(unsigned int i)
{
	return i <= best ? 100000 : 10000;
}

static uint64_t peak_at_prior(unsigned int i)
{
	return i == HKM_ELO_PRIOR ? 100000 : i == best ? 50000 : 90000;
}

/* the winner */
static unsigned int rate(uint64_t (*cost)(unsigned int i))
{
	struct hkm_elo elo;

	hkm_elo_begin(&elo);
	for (costs = 0; !elo.settled && costs < 2 * HKM_ELO_COSTS; costs++)
		hkm_elo_cost(&elo, noisy(cost(hkm_elo_turn(&elo))), LEAST);
	check(elo.settled);
	check_int(hkm_elo_turn(&elo), elo.winner);
	return elo.winner;
}

/* ---- cases ------------------------------------------------------------------ */

static void expected_scores(void)
{
	check_int(hkm_elo_expected(0), 500);
	check_int(hkm_elo_expected(50 * HKM_ELO_POINT), 571);
	check_int(hkm_elo_expected(75 * HKM_ELO_POINT), 605);
	check_int(hkm_elo_expected(-50 * HKM_ELO_POINT), 429);
	check_int(hkm_elo_expected(400 * HKM_ELO_POINT), 909);
	check_int(hkm_elo_expected(5000 * HKM_ELO_POINT), 990);
	check_int(hkm_elo_expected(-5000 * HKM_ELO_POINT), 10);
	for (int32_t i = -900; i < 900; i++)
		check(hkm_elo_expected(i * HKM_ELO_POINT) <=
		      hkm_elo_expected((i + 1) * HKM_ELO_POINT));
}

static void the_prior_wins_what_is_equal(void)
{
	check_int(rate(all_equal), HKM_ELO_PRIOR);
}

static void the_cheapest_wins(void)
{
	for (best = 0; best < HKM_ELO_NR; best++)
		check_int(rate(valley), best);
}

static void one_against_the_prior_wins(void)
{
	for (best = 0; best < HKM_ELO_NR; best++)
		if (best != HKM_ELO_PRIOR)
			check_int(rate(peak_at_prior), best);
}

/* of those that are equal the nearest to the prior, if that is not one of them */
static void blocks_of_one_size(void)
{
	for (best = 0; best < HKM_ELO_NR; best++)
		check_int(rate(cheap_up_to_best), best < HKM_ELO_PRIOR ?
						  best : HKM_ELO_PRIOR);
	for (best = 0; best < HKM_ELO_NR - 1; best++)
		check_int(rate(dear_up_to_best), best < HKM_ELO_PRIOR ?
						 HKM_ELO_PRIOR : best + 1);
}

/* how often in a thousand something else than @want wins */
static int misjudged(uint64_t (*cost)(unsigned int i), unsigned int want)
{
	int n = 0;

	for (int i = 1; i <= 1000; i++) {
		seed = (uint64_t)i * 7919;
		n += rate(cost) != want;
	}
	return n;
}

static void noise_alone_changes_nothing(void)
{
	for (noise = 5; noise <= 20; noise += 5)
		check_int(misjudged(all_equal, HKM_ELO_PRIOR), 0);
	for (noise = 30; noise < 100; noise += 10)
		check(misjudged(all_equal, HKM_ELO_PRIOR) <= 15);
}

static void the_cheapest_wins_in_noise(void)
{
	noise = 10;
	for (best = 0; best < HKM_ELO_NR; best++)
		check_int(misjudged(valley, best), 0);
	noise = 40;
	for (best = HKM_ELO_PRIOR + 2; best < HKM_ELO_NR; best++)
		check(misjudged(valley, best) <= 150);
}

/* a cost that is wrong by a factor of a thousand is one lost game */
static void a_wrong_cost_is_one_game(void)
{
	for (unsigned int bad = 0; bad < HKM_ELO_COSTS; bad++) {
		struct hkm_elo elo;

		best = 5;
		hkm_elo_begin(&elo);
		for (unsigned int i = 0; i < HKM_ELO_COSTS; i++)
			hkm_elo_cost(&elo, valley(hkm_elo_turn(&elo)) *
					   (i == bad ? 1000 : 1), LEAST);
		check(elo.settled);
		check_int(elo.winner, 5);
	}
}

static void small_differences_are_draws(void)
{
	struct hkm_elo draw, elo;

	hkm_elo_begin(&draw);
	hkm_elo_cost(&draw, 5000, LEAST);
	hkm_elo_cost(&draw, 5000, LEAST);
	for (int i = 0; i < 2; i++) {
		hkm_elo_begin(&elo);
		hkm_elo_cost(&elo, i ? 5000 : 5555, LEAST);
		hkm_elo_cost(&elo, i ? 5555 : 5000, LEAST);
		check(!memcmp(elo.rating, draw.rating, sizeof(elo.rating)));
		hkm_elo_begin(&elo);
		hkm_elo_cost(&elo, i ? 5000 : 5600, LEAST);
		hkm_elo_cost(&elo, i ? 5600 : 5000, LEAST);
		check(memcmp(elo.rating, draw.rating, sizeof(elo.rating)));
		hkm_elo_begin(&elo);
		hkm_elo_cost(&elo, i ? 0 : LEAST, LEAST);
		hkm_elo_cost(&elo, i ? LEAST : 0, LEAST);
		check(!memcmp(elo.rating, draw.rating, sizeof(elo.rating)));
		hkm_elo_begin(&elo);
		hkm_elo_cost(&elo, i ? 0 : LEAST + 1, LEAST);
		hkm_elo_cost(&elo, i ? LEAST + 1 : 0, LEAST);
		check(memcmp(elo.rating, draw.rating, sizeof(elo.rating)));
	}
}

static void extreme_costs(void)
{
	struct hkm_elo elo;

	hkm_elo_begin(&elo);
	for (int i = 0; i < HKM_ELO_COSTS; i++)
		hkm_elo_cost(&elo, i % 3 ? UINT64_MAX : 0, UINT64_MAX);
	check(elo.settled);
	check_int(elo.winner, HKM_ELO_PRIOR);
}

static void everybody_plays(void)
{
	int turns[HKM_ELO_NR] = { 0 }, firsts[HKM_ELO_NR] = { 0 };
	struct hkm_elo elo;

	hkm_elo_begin(&elo);
	for (int i = 0; !elo.settled; i++) {
		turns[hkm_elo_turn(&elo)]++;
		firsts[hkm_elo_turn(&elo)] += !(i % 2);
		check(elo.player[0] != elo.player[1]);
		check(elo.player[0] < HKM_ELO_NR && elo.player[1] < HKM_ELO_NR);
		hkm_elo_cost(&elo, 1000, LEAST);
	}
	for (int i = 0; i < HKM_ELO_NR; i++) {
		check(turns[i] >= HKM_ELO_NR - 1);
		check(firsts[i] > 0 && firsts[i] < turns[i]);
	}
}

static void points_are_neither_made_nor_lost(void)
{
	struct hkm_elo elo;
	int64_t sum;

	noise = 90;
	seed = 1;
	hkm_elo_begin(&elo);
	while (!elo.settled) {
		hkm_elo_cost(&elo, noisy(100000), LEAST);
		sum = 0;
		for (int i = 0; i < HKM_ELO_NR; i++)
			sum += elo.rating[i];
		check_int(sum, HKM_ELO_NR * HKM_ELO_START + HKM_ELO_BONUS);
	}
}

static void it_ends_and_stays_so(void)
{
	struct hkm_elo elo, end;

	hkm_elo_begin(&elo);
	for (int i = 0; i < HKM_ELO_COSTS; i++) {
		check(!elo.settled);
		hkm_elo_cost(&elo, valley(hkm_elo_turn(&elo)), LEAST);
	}
	check(elo.settled);
	check_int(elo.games, HKM_ELO_GAMES);
	end = elo;
	for (int i = 0; i < 100; i++)
		hkm_elo_cost(&elo, i % 2 ? 1 : 1000000, LEAST);
	check(!memcmp(&elo, &end, sizeof(elo)));
}

static const struct tap_case cases[] = {
	CASE(expected_scores),
	CASE(the_prior_wins_what_is_equal),
	CASE(the_cheapest_wins),
	CASE(one_against_the_prior_wins),
	CASE(blocks_of_one_size),
	CASE(noise_alone_changes_nothing),
	CASE(the_cheapest_wins_in_noise),
	CASE(a_wrong_cost_is_one_game),
	CASE(small_differences_are_draws),
	CASE(extreme_costs),
	CASE(everybody_plays),
	CASE(points_are_neither_made_nor_lost),
	CASE(it_ends_and_stays_so),
};

TAP_MAIN(cases)
