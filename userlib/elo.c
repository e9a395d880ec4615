// SPDX-License-Identifier: MIT
/*
 * Candidates rated against each other, as Arpad Elo rated players of chess.
 *
 * A cost is measured on a machine that does other things too, of a program that
 * does not do the same twice. So no two costs are compared but such that were
 * measured one after the other, and of those nothing is kept but who had less:
 * one that is wrong by a factor of a thousand is one lost game. A game moves the
 * ratings of two by K times the difference between how it ended and how it was
 * expected to end; costs that hardly differ are a draw, which moves them together.
 *
 *   each against each   21 games, in which every candidate has six
 *   the question        is there a better one than the prior? The best of the
 *                       others plays against the prior, and in turns with that
 *                       against the second best of them, so that not the luckier
 *                       of two is who plays
 *
 * Who is first to be tried changes from game to game: what the one leaves behind
 * for the other is not always to the benefit of the same.
 *
 * The prior begins ahead, and who is to win must end well ahead of it. So where
 * all is a draw, or chance, it stays, and that is what a change has to be worth.
 * Of such as are about equal who is nearer to the prior wins.
 *
 * Integers, and a table instead of powers: a library that stands in for malloc()
 * needs no libm, and the same costs end the same way on every machine.
 */
#include "elo.h"

#define K 32	/* points; at most so many are lost in a game */

#define PAIRS (HKM_ELO_NR * (HKM_ELO_NR - 1) / 2)

#define WIN  1000	/* scores, in thousandths */
#define DRAW 500
#define LOSS 0

/* 1000 / (1 + 10^(-ahead / 400)), each 50 points */
static const int16_t expected[] = {
	500, 571, 640, 703, 760, 808, 849, 882, 909, 930, 947, 960, 969, 977,
	983, 987, 990,
};
#define STEP (50 * HKM_ELO_POINT)
#define LAST (int32_t)(sizeof(expected) / sizeof(*expected) - 1)

int32_t hkm_elo_expected(int32_t ahead)
{
	int32_t i, part;

	if (ahead < 0)
		return 1000 - hkm_elo_expected(-ahead);
	i = ahead / STEP;
	if (i >= LAST)
		return expected[LAST];
	part = ahead % STEP / HKM_ELO_POINT;
	return expected[i] + (expected[i + 1] - expected[i]) * part /
			     (STEP / HKM_ELO_POINT);
}

static unsigned int distance(unsigned int i)
{
	return i > HKM_ELO_PRIOR ? i - HKM_ELO_PRIOR : HKM_ELO_PRIOR - i;
}

static bool is_better(const struct hkm_elo *elo, unsigned int a, unsigned int b)
{
	if (elo->rating[a] != elo->rating[b])
		return elo->rating[a] > elo->rating[b];
	return distance(a) < distance(b);
}

/* The best that is neither the prior nor @but. */
static unsigned int best_of_others(const struct hkm_elo *elo, unsigned int but)
{
	unsigned int best = HKM_ELO_NR;

	for (unsigned int i = 0; i < HKM_ELO_NR; i++) {
		if (i == HKM_ELO_PRIOR || i == but)
			continue;
		if (best == HKM_ELO_NR || is_better(elo, i, best))
			best = i;
	}
	return best;
}

/* Who is about as good as the best of them, and nearer to the prior. */
static unsigned int challenger(const struct hkm_elo *elo)
{
	unsigned int best = best_of_others(elo, HKM_ELO_NR), found = best;

	for (unsigned int i = 0; i < HKM_ELO_NR; i++)
		if (i != HKM_ELO_PRIOR && distance(i) < distance(found) &&
		    elo->rating[i] >= elo->rating[best] - HKM_ELO_ALIKE)
			found = i;
	return found;
}

/* The @n-th of all pairs. */
static void choose_pair(struct hkm_elo *elo, unsigned int n)
{
	unsigned int a = 0;

	for (; n >= HKM_ELO_NR - 1 - a; a++)
		n -= HKM_ELO_NR - 1 - a;
	elo->player[0] = a;
	elo->player[1] = a + 1 + n;
}

static void choose_players(struct hkm_elo *elo)
{
	unsigned int best, swap;

	if (elo->games < PAIRS) {
		choose_pair(elo, elo->games);
	} else {
		best = challenger(elo);
		elo->player[0] = best;
		elo->player[1] = (elo->games - PAIRS) % 2 ?
				 best_of_others(elo, best) : HKM_ELO_PRIOR;
	}
	/* In pairs, because who plays against whom has a period of two. */
	if (elo->games / 2 % 2) {
		swap = elo->player[0];
		elo->player[0] = elo->player[1];
		elo->player[1] = swap;
	}
}

/* The first one's. */
static int32_t score(uint64_t a, uint64_t b, uint64_t least)
{
	uint64_t low = a < b ? a : b, high = a < b ? b : a;

	if (high - low <= least ||
	    low >= high / 100 * HKM_ELO_DRAW_PERCENT +
		   high % 100 * HKM_ELO_DRAW_PERCENT / 100)
		return DRAW;
	return a < b ? WIN : LOSS;
}

static void play(struct hkm_elo *elo, int32_t won)
{
	int32_t *a = &elo->rating[elo->player[0]];
	int32_t *b = &elo->rating[elo->player[1]];
	int32_t gain = K * (won - hkm_elo_expected(*a - *b));

	*a += gain;
	*b -= gain;
}

static void settle(struct hkm_elo *elo)
{
	unsigned int best = challenger(elo);

	elo->settled = true;
	elo->winner = elo->rating[best] >
		      elo->rating[HKM_ELO_PRIOR] + HKM_ELO_MARGIN ?
		      best : HKM_ELO_PRIOR;
}

void hkm_elo_begin(struct hkm_elo *elo)
{
	*elo = (struct hkm_elo){ .winner = HKM_ELO_PRIOR };
	for (unsigned int i = 0; i < HKM_ELO_NR; i++)
		elo->rating[i] = HKM_ELO_START;
	elo->rating[HKM_ELO_PRIOR] += HKM_ELO_BONUS;
	choose_players(elo);
}

unsigned int hkm_elo_turn(const struct hkm_elo *elo)
{
	return elo->settled ? elo->winner : elo->player[elo->second];
}

void hkm_elo_cost(struct hkm_elo *elo, uint64_t cost, uint64_t least)
{
	if (elo->settled)
		return;
	if (!elo->second) {
		elo->cost = cost;
		elo->second = true;
		return;
	}
	play(elo, score(elo->cost, cost, least));
	elo->second = false;
	if (++elo->games == HKM_ELO_GAMES)
		settle(elo);
	else
		choose_players(elo);
}
