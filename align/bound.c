/* Masses inside tokens that the source's logits do not have, told from the candidates they do have.
 *
 * M(x) is the mass of all tokens whose bytes begin with text[u..x). The stored candidates that do so, and the token
 * itself, are some of those: their sum is a lower bound, never growing along the token and never below the token's own
 * probability. So P never grows, ce telescopes as before, and a distribution made with these masses sums to 1
 * at most. What the bound lacks, ce shows as bytes too dear at a token's beginning and too cheap at its end. */
#include "align/path.h"

#include <math.h>
#include <string.h>

/* -ln of the bound at the n interior bytes of token i. own: the bytes its text has, of which the first `pre` (a dummy
 * prefix) stand before its span. */
static void token_bounds(const kf_aligner *a, const kf_logits_rec *r, uint32_t i, const uint8_t *own, uint32_t pre, uint32_t n,
	double *mass, float *out)
{
	const int32_t *id = r->top_ids + (size_t)i * r->k;
	const float *lp = r->top_lp + (size_t)i * r->k;

	/* of the candidates that share just the first j + 1 bytes of the span; then of those that share at least so many */
	memset(mass, 0, n * sizeof *mass);
	for (uint32_t j = 0; j < r->k; j++) {
		uint32_t len, same = 0;
		const uint8_t *b;

		if (id[j] < 0 || id[j] >= a->vs || id[j] == r->tokens[i]) continue;
		len = align_len(a, id[j]);
		b = a->bytes + a->off[id[j]];
		while (same < len && same < pre + n && b[same] == own[same]) same++;
		if (same > pre) mass[same - pre - 1] += (double)expf(lp[j]);
	}
	for (uint32_t j = n; j-- > 0;) {
		double m;

		if (j + 1 < n) mass[j] += mass[j + 1];
		m = mass[j] + (double)expf(-r->ce[i]);
		out[j] = m < 1 ? (float)-log(m) : 0;
	}
}

kf_status align_bound(align_path *p, const kf_aligner *a, const kf_logits_rec *tgt, kf_arena *arena, kf_err *err)
{
	const kf_logits_rec *r = p->rec;
	uint32_t total = 0, widest = 0, *off = KF_ARENA_NEW(arena, uint32_t, (size_t)r->n + 1);
	uint8_t *text = NULL;
	double *mass;
	float *nlm;

	if (!off) goto nomem;
	for (uint32_t i = 0; i < r->n; i++) {
		uint32_t span = r->start[i + 1] - r->start[i], inner = span ? span - 1 : 0;

		off[i] = total;
		total += inner;
		if (inner > widest) widest = inner;
	}
	off[r->n] = total;
	nlm = KF_ARENA_NEW(arena, float, (size_t)total + 1);
	mass = KF_ARENA_NEW(arena, double, (size_t)widest + 1);
	if (!nlm || !mass) goto nomem;
	for (uint32_t i = 0; i < r->n; i++) {
		uint32_t n = off[i + 1] - off[i], pre = i == 0 && p->src_space;
		const uint8_t *own = a->bytes + a->off[r->tokens[i]];

		if (!n || (i == 0 && !r->bos)) {
			for (uint32_t j = 0; j < n; j++) nlm[off[i] + j] = 0;
			continue;
		}
		if (align_len(a, r->tokens[i]) != pre + n + 1) { /* it does not spell its own bytes */
			if (!text && !(text = align_target_text(a, p, tgt, arena))) goto nomem;
			own = text + p->d + r->start[i] - pre;
		}
		token_bounds(a, r, i, own, pre, n, mass, nlm + off[i]);
	}
	p->nlm = nlm;
	p->nlm_off = off;
	return KF_OK;
nomem:
	return kf_fail(err, KF_ENOMEM, "no memory to align a document of %u tokens", r->n);
}
