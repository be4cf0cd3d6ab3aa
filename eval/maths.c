#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/rng.h"
#include "eval/eval.h"

uint32_t kf_eval_first_byte(const kf_logits_rec *rec)
{
	if (rec->context) return 0;
	if (rec->n == 0) return rec->head.bytes;   /* of a text that its tokenizer keeps nothing of */
	return rec->bos ? 0 : rec->start[1];
}

/* Whether token i of a conversation is of a reply's text. */
static bool of_reply(const kf_logits_rec *rec, uint32_t i)
{
	return !rec->context[i] && !kf_ends_turn(rec->context, rec->start, rec->n, i);
}

uint32_t kf_eval_compared(const kf_logits_rec *rec, uint32_t x0)
{
	uint32_t bytes = 0;

	if (!rec->context) return rec->head.bytes > x0 ? rec->head.bytes - x0 : 0;
	for (uint32_t i = 0; i < rec->n; i++) bytes += of_reply(rec, i) ? rec->start[i + 1] - rec->start[i] : 0;
	return bytes;
}

bool kf_eval_counts(const kf_logits_rec *rec, uint32_t i)
{
	return !isnan(rec->ce[i]) && (!rec->context || of_reply(rec, i));
}

kf_status kf_eval_span(const kf_logits_rec *rec, uint32_t x0, double *nats, kf_err *err)
{
	uint32_t lo = rec->bos || rec->n == 0 ? 0 : 1, hi = rec->n;
	double sum = 0;

	if (rec->context) {
		for (uint32_t i = 0; i < rec->n; i++) sum += of_reply(rec, i) ? (double)rec->ce[i] : 0;
		lo = rec->n;
		x0 = rec->start[lo];
	}
	/* The first token, of those with a distribution, that begins at x0 or later. */
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (rec->start[mid] < x0) lo = mid + 1;
		else hi = mid;
	}
	for (uint32_t i = lo; i < rec->n; i++) sum += (double)rec->ce[i];
	if (lo > 0 && rec->start[lo] > x0 && rec->start[lo - 1] < x0) {
		/* x0 is inside token lo - 1: P(end of it)/P(x0) = exp(-ce) / M(x0). */
		uint32_t u = lo - 1;
		uint32_t inside = x0 - rec->start[u] - 1;

		if (!rec->has_path)
			return kf_fail(err, KF_EDATA,
				"document %llu: byte %u is inside a token, and these logits were extracted "
				"without the byte path, which tells its probability", (unsigned long long)rec->head.doc, x0);
		if (rec->path_off[u] + inside >= rec->path_off[u + 1])
			return kf_fail(err, KF_EDATA, "document %llu: token %u has no byte path at byte %u",
				(unsigned long long)rec->head.doc, u, x0);
		sum += (double)rec->ce[u] - (double)rec->path_nlm[rec->path_off[u] + inside];
	}
	if (!isfinite(sum))
		return kf_fail(err, KF_EDATA, "document %llu: its probability is not a finite number",
			(unsigned long long)rec->head.doc);
	*nats = sum;
	return KF_OK;
}

double kf_eval_difference(const double *bits_a, const double *bits_b, const double *bytes, size_t docs,
	uint64_t seed, const char *key, double *resampled, int n)
{
	double bits = 0, total = 0;
	kf_rng rng;

	kf_rng_seed(&rng, kf_hash64(key, strlen(key)) + seed);
	for (size_t i = 0; i < docs; i++) {
		bits += bits_a[i] - bits_b[i];
		total += bytes[i];
	}
	for (int r = 0; r < n; r++) {
		double b = 0, t = 0;

		for (size_t i = 0; i < docs; i++) {
			size_t j = (size_t)kf_rng_below(&rng, docs);

			b += bits_a[j] - bits_b[j];
			t += bytes[j];
		}
		resampled[r] = t > 0 ? b / t : 0;
	}
	return total > 0 ? bits / total : 0;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double kf_eval_quantile(double *v, int n, double q)
{
	double at = q * (n - 1);
	int i = (int)at;

	qsort(v, (size_t)n, sizeof *v, ascending);
	return i + 1 < n ? v[i] + (at - i) * (v[i + 1] - v[i]) : v[n - 1];
}
