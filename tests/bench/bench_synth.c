/* Logits sets of made-up predictions over made-up text, straight through the store's writer: as many documents as wanted, in
 * seconds instead of GPU-hours, for measuring the stages that follow.
 *
 *   bench_synth OUT DOCUMENTS BYTES K SHARDS THREADS TARGET SOURCE...    OUT/target, OUT/source0, ...
 *
 * TARGET and SOURCE are GGUF files or Hugging Face folders: of these the tokenizers only. A document is BYTES of words of the
 * target's vocabulary, frequent ones more often; its predictions are candidates that depend on the token before, with the
 * label among them at a rank like a small model's, the masses inside tokens those that the candidates imply. So encodings, lists of
 * candidates and byte paths have work to do as with a model; how well the numbers pack is not a model's.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/failure.h"
#include "common/base/file.h"
#include "common/base/pool.h"
#include "common/base/rng.h"
#include "common/model/gguf.h"
#include "common/store/record.h"
#include "common/text/tokenizer.h"

#define WORDS 4096     /* of the text */
#define POOL 8192      /* tokens that are candidates */

typedef struct {
	kf_tokenizer *tok;
	int32_t pool[POOL];        /* (n) tokens of some bytes, the shorter (and so the more frequent) first */
	int n;
} model;

typedef struct {
	const model *m, *target;
	kf_set_writer *w;
	uint64_t docs;
	int bytes, k, shards, salt;
	kf_failure failure;
} job;

static kf_status open_model(const char *path, model *m, kf_err *err)
{
	kf_vocab_spec spec;
	kf_arena arena;
	kf_gguf *g;
	kf_status rc;

	kf_arena_init(&arena);
	if (kf_is_dir(path)) {
		rc = kf_tokenizer_open_dir(path, &m->tok, err);
	} else if ((rc = kf_gguf_open(path, &g, err)) == KF_OK) {
		if ((rc = kf_gguf_vocab(g, &arena, &spec, err)) == KF_OK) rc = kf_tokenizer_from_spec(&spec, &m->tok, err);
		kf_gguf_close(g);
	}
	kf_arena_release(&arena);
	for (int32_t id = 0; rc == KF_OK && id < kf_tokenizer_size(m->tok) && m->n < POOL; id++) {
		uint32_t len = 0;

		kf_tokenizer_bytes(m->tok, id, &len);
		if (len && !kf_tokenizer_is_control(m->tok, id)) m->pool[m->n++] = id;
	}
	return rc == KF_OK && m->n < 64 ? kf_fail(err, KF_EINVAL, "%s: a vocabulary of %d tokens is too small", path, m->n) : rc;
}

/* 0 .. n - 1, small ones much more often. */
static int zipf(double u, int n)
{
	int i = (int)(exp(u * log((double)n + 1)) - 1);

	return i < n ? i : n - 1;
}

/* Words of the vocabulary: a space and letters. The same text whoever the model is. */
static uint32_t make_text(const model *t, kf_rng *r, int bytes, uint8_t *out)
{
	uint32_t n = 0;

	while (n < (uint32_t)bytes) {
		uint32_t len;
		const uint8_t *b = kf_tokenizer_bytes(t->tok, t->pool[zipf(kf_rng_real(r), t->n < WORDS ? t->n : WORDS)], &len);

		if (len < 2 || b[0] != ' ') continue;
		for (uint32_t i = 1; i < len; i++)
			if (!((b[i] | 32) >= 'a' && (b[i] | 32) <= 'z')) len = 0;
		if (!len) continue;
		if (n + len > (uint32_t)bytes) break;
		memcpy(out + n, b + !n, len - !n);
		n += len - !n;
	}
	return n;
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdu;
	return x ^ x >> 29;
}

/* Position i's candidates; the label among them at a rank that is 0 for half of the tokens. */
static void candidates(const job *j, kf_rng *r, int32_t before, int32_t label, int32_t *ids, float *lp, float *ce)
{
	int rank = (int)(kf_rng_real(r) < 0.5 ? 0 : j->k * 1.3 * kf_rng_real(r) * kf_rng_real(r));
	double left = 1, p = 0.25 + 0.5 * kf_rng_real(r);

	for (int c = 0; c < j->k; c++) {
		uint64_t h = mix((uint64_t)(uint32_t)before * 64 + (uint64_t)c + ((uint64_t)j->salt << 40));
		bool twice;

		do {
			ids[c] = kf_rng_below(r, 4) ? j->m->pool[zipf((double)(h >> 11) * 0x1p-53, j->m->n)] :
				j->m->pool[zipf(kf_rng_real(r), j->m->n)];
			if (c == rank && label >= 0) ids[c] = label;
			twice = false;
			for (int d = 0; d < c; d++) twice = twice || ids[d] == ids[c];
			if (twice && c == rank) rank = -1; /* it came by itself, further up */
			h = mix(h + 1);
		} while (twice);
		lp[c] = (float)log(left * p);
		left *= 1 - p;
		p = p * (0.6 + 0.3 * kf_rng_real(r));
		if (c && lp[c] > lp[c - 1]) lp[c] = lp[c - 1];
	}
	*ce = -1;
	for (int c = 0; c < j->k; c++)
		if (ids[c] == label) *ce = -lp[c];
	if (*ce < 0) *ce = -lp[j->k - 1] + (float)(4 * kf_rng_real(r));
}

static kf_status predict(const job *j, kf_rng *r, uint64_t doc, const uint8_t *text, uint32_t bytes, kf_arena *a, kf_logits_rec *rec,
	kf_err *err)
{
	const bool bos = kf_tokenizer_bos(j->m->tok) >= 0;
	const uint32_t k = (uint32_t)j->k;
	kf_encoding enc;
	kf_status rc = kf_tokenizer_encode(j->m->tok, text, bytes, false, a, &enc, err);
	uint32_t n = enc.n, paths = 0;
	int32_t *ids;
	float *lp, *ce, *nlm;
	uint32_t *po, *xo;

	if (rc != KF_OK) return rc;
	ids = KF_ARENA_NEW(a, int32_t, (n + 1) * (size_t)k);
	lp = KF_ARENA_NEW(a, float, (n + 1) * (size_t)k);
	ce = KF_ARENA_NEW(a, float, n + 1);
	nlm = KF_ARENA_NEW(a, float, bytes + 1);
	po = KF_ARENA_NEW(a, uint32_t, n + 1);
	xo = kf_arena_alloc(a, n + 2, sizeof *xo);
	if (!ids || !lp || !ce || !nlm || !po || !xo) return kf_fail(err, KF_ENOMEM, "no memory for a document");
	memset(xo, 0, (n + 2) * sizeof *xo);
	for (uint32_t i = 0; i <= n; i++) {
		int32_t *id = ids + (size_t)i * k;
		float *l = lp + (size_t)i * k;

		if (i == 0 && !bos) {
			for (uint32_t c = 0; c < k; c++) {
				id[c] = -1;
				l[c] = -INFINITY;
			}
			ce[0] = NAN;
		} else {
			candidates(j, r, i ? enc.ids[i - 1] : -1, i < n ? enc.ids[i] : -1, id, l, &ce[i]);
		}
		if (i == n) break;
		po[i] = paths;
		for (uint32_t x = enc.start[i] + 1; x < enc.start[i + 1]; x++) {
			double mass = 0;
			bool label = false;

			for (uint32_t c = 0; c < k && (i || bos); c++) {
				uint32_t len;
				const uint8_t *b = kf_tokenizer_bytes(j->m->tok, id[c], &len);

				if (len < x - enc.start[i] || memcmp(b, text + enc.start[i], x - enc.start[i])) continue;
				mass += exp((double)l[c]);
				label = label || id[c] == enc.ids[i];
			}
			if (!label && (i || bos)) mass += exp(-(double)ce[i]);
			nlm[paths++] = i == 0 && !bos ? 0 : mass >= 1 ? 0 : (float)-log(mass);
		}
	}
	po[n] = paths;
	*rec = (kf_logits_rec){ .head = { .doc = doc, .id = "", .domain = doc % 3 ? "words" : "more words", .bytes = bytes }, .bos = bos, .n = n,
		.k = k, .tokens = enc.ids, .start = enc.start, .ce = ce, .top_ids = ids, .top_lp = lp, .has_path = true, .path_off = po,
		.path_nlm = nlm, .extra_off = xo };
	return KF_OK;
}

static void one_shard(void *arg, size_t shard, int worker)
{
	job *j = arg;
	uint64_t from = j->docs * shard / (uint64_t)j->shards, to = j->docs * (shard + 1) / (uint64_t)j->shards;
	uint8_t *text = kf_alloc((size_t)j->bytes + 1, 1);
	kf_shard_writer *sw = NULL;
	kf_arena arena;
	kf_err err;
	kf_status rc;

	(void)worker;
	kf_arena_init(&arena);
	rc = text ? kf_shard_begin(j->w, (int)shard, &sw, &err) : kf_fail(&err, KF_ENOMEM, "no memory for a document");
	for (uint64_t d = from; d < to && rc == KF_OK && !kf_failure_seen(&j->failure); d++) {
		kf_logits_rec rec;
		kf_rng r;
		uint32_t n;

		kf_rng_seed(&r, d);
		n = make_text(j->target, &r, j->bytes, text);
		kf_rng_seed(&r, d + ((uint64_t)j->salt << 40));
		if ((rc = predict(j, &r, d, text, n, &arena, &rec, &err)) == KF_OK) rc = kf_shard_put_logits(sw, &rec, &err);
		kf_arena_reset(&arena);
	}
	if (rc == KF_OK) {
		rc = kf_shard_commit(sw, &err);
		sw = NULL;
	}
	if (rc != KF_OK) kf_failure_note(&j->failure, (int)shard, rc, &err);
	kf_shard_abandon(sw);
	kf_arena_release(&arena);
	kf_free(text);
}

static kf_status write_set(job *j, const char *dir, const char *name, kf_pool *pool, kf_err *err)
{
	char what[96];
	kf_buf saved = { 0 };
	kf_set_input in[2] = { { .role = "corpus", .name = "made up" }, { .role = "model", .name = name } };
	kf_set_spec spec = { .dir = dir, .kind = KF_SET_LOGITS, .program = "bench_synth", .inputs = in, .n_inputs = 2, .n_shards = j->shards };
	kf_set_state state;
	kf_status rc;

	snprintf(what, sizeof what, "%llu documents of %d bytes", (unsigned long long)j->docs, j->bytes);
	in[0].fp = kf_fp_of(what, strlen(what));
	in[1].fp = kf_fp_of(name, strlen(name));
	in[1].fp.lo += (uint64_t)j->salt;
	if ((rc = kf_tokenizer_save(j->m->tok, &saved, err)) != KF_OK) return rc;
	spec.tokenizer = saved.data;
	spec.tokenizer_size = saved.len;
	spec.info = json_pack("{s:i, s:s, s:b}", "k", j->k, "model", name, "byte_path", 1);
	if ((rc = kf_set_begin(&spec, &j->w, &state, err)) == KF_OK && state != KF_SET_CURRENT) {
		kf_pool_run(pool, (size_t)j->shards, one_shard, j);
		if ((rc = j->failure.rc) != KF_OK) *err = j->failure.err;
		if (rc == KF_OK) {
			rc = kf_set_commit(j->w, NULL, NULL, err);
			j->w = NULL;
		}
	}
	kf_set_abandon(j->w);
	json_decref(spec.info);
	kf_buf_release(&saved);
	return rc;
}

int main(int argc, char **argv)
{
	static model models[KF_MAX_INPUTS];
	kf_pool *pool = NULL;
	char dir[KF_PATH_MAX], name[64];
	int n = argc - 7;
	kf_err err;
	kf_status rc = KF_OK;

	if (n < 1 || n > KF_MAX_INPUTS || atoll(argv[2]) < 1 || atoi(argv[3]) < 16 || atoi(argv[4]) < 1 || atoi(argv[5]) < 1) {
		fprintf(stderr, "usage: %s OUT DOCUMENTS BYTES K SHARDS THREADS TARGET SOURCE...\n", argv[0]);
		return argc == 1 ? 0 : 2;
	}
	if (kf_pool_new(atoi(argv[6]), &pool, &err) != KF_OK) goto fail;
	for (int i = 0; i < n; i++)
		if (open_model(argv[7 + i], &models[i], &err) != KF_OK) goto fail;
	for (int i = 0; i < n; i++) {
		job j = { .m = &models[i], .target = &models[0], .docs = (uint64_t)atoll(argv[2]), .bytes = atoi(argv[3]), .k = atoi(argv[4]),
			.shards = atoi(argv[5]), .salt = i, .failure = KF_FAILURE };

		if (i) snprintf(name, sizeof name, "source%d", i - 1);
		else snprintf(name, sizeof name, "target");
		if ((rc = kf_path_join(dir, argv[1], name, &err)) != KF_OK || (rc = write_set(&j, dir, name, pool, &err)) != KF_OK) goto fail;
	}
	for (int i = 0; i < n; i++) kf_tokenizer_free(models[i].tok);
	kf_pool_free(pool);
	return 0;
fail:
	fprintf(stderr, "%s\n", err.text);
	return 1;
}
