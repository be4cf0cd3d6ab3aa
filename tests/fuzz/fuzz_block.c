/* Blocks of records, as codecs read them once LMDB, zstd and the checksum have let them through, which hardly a changed shard gets to; and
 * what alignment, fusion and training then make of the records. Whatever a block says, a record that is read keeps record.h's promises, and
 * so does what comes of it.
 *
 * An input is a byte that says how to align and fuse, then up to BLOCKS blocks (blocks.py makes them of shards):
 *   u8 codec (of codecs, modulo their number), u16 documents less 1, the codec's prefix (flags, k), and for each plane: varint bytes, the bytes.
 * What is missing is empty or 0. Two blocks of logits are a source (llama-tiny) and the target (qwen2-tiny), which are aligned and fused; logits
 * and distributions are fused. Models are looked for in $KFUSE_MODELS, or tests/models. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "align/align.h"
#include "common/store/logits.h"
#include "common/store/store.h"
#include "fuse/fuse.h"
#include "tests/fuzz/fuzz.h"
#include "train/data.h"

enum { BLOCKS = 3 };

static const struct { kf_set_kind kind; bool f32; } codecs[] = { { KF_SET_CORPUS, false }, { KF_SET_LOGITS, false }, { KF_SET_LOGITS, true },
	{ KF_SET_ALIGNED, false }, { KF_SET_ALIGNED, true } };

static kf_tokenizer *tokenizer[2];
static kf_aligner *aligner[3][2];    /* method, map: prefix, exact */

static void need(kf_status rc, const kf_err *err)
{
	if (rc == KF_OK) return;
	fprintf(stderr, "%s\n", err->text);
	exit(1);
}

static kf_aligner *aligner_of(int method, int map)
{
	static const char *const names[] = { "llama-tiny", "qwen2-tiny" };
	const char *models = getenv("KFUSE_MODELS");
	char path[KF_PATH_MAX];
	kf_err err;

	for (int i = 0; i < 2 && !tokenizer[i]; i++) {
		snprintf(path, sizeof path, "%s/%s", models ? models : "tests/models", names[i]);
		need(kf_tokenizer_open_dir(path, &tokenizer[i], &err), &err);
	}
	if (!aligner[method][map])
		need(kf_aligner_new(tokenizer[0], tokenizer[1], (kf_align_method)method, (kf_align_map)map, &aligner[method][map], &err), &err);
	return aligner[method][map];
}

/* ---- one block as a shard ---- */

static kf_shard *open_block(kf_cur *in, kf_buf *value, struct kf_block_ref *ref)
{
	const int codec = kf_cur_u8(in) % (int)(sizeof codecs / sizeof *codecs);
	const kf_codec_reader *c = kf_codec_of(codecs[codec].kind, codecs[codec].f32);
	kf_block_head head = { KF_BLOCK_MAGIC(c->letter), 1u + kf_cur_u16(in), 0 };
	kf_buf body = { 0 };
	kf_shard *s = kf_zalloc(1, sizeof *s);
	int planes = 0;

	kf_buf_clear(value);
	kf_buf_put(value, &head, sizeof head);
	for (size_t i = 0; i < c->prefix; i++) kf_buf_u8(value, kf_cur_u8(in));
	while (c->planes[planes]) planes++;
	if (c->flags && !(value->data[KF_BLOCK_HEAD] & KF_BLOCK_CONTEXT)) planes--;
	for (int i = 0; i < planes; i++) {
		uint64_t n = kf_cur_varint(in);

		if (n > kf_cur_left(in)) n = kf_cur_left(in);
		kf_buf_varint(value, n);
		kf_buf_varint(value, n << 2);
		kf_buf_put(&body, kf_cur_bytes(in, (size_t)n), (size_t)n);
	}
	kf_buf_put(value, body.data, body.len);
	kf_buf_release(&body);
	head.checksum = kf_hash64(value->data + KF_BLOCK_HEAD, value->len - KF_BLOCK_HEAD);
	memcpy(value->data, &head, sizeof head);
	*ref = (struct kf_block_ref){ .data = value->data, .size = value->len, .docs = head.docs };
	snprintf(s->path, sizeof s->path, "fuzz");
	s->kind = codecs[codec].kind;
	s->f32 = codecs[codec].f32;
	s->codec = c;
	s->blocks = ref;
	s->n_blocks = 1;
	s->docs = head.docs;
	return s;
}

/* What decodes is used again for the next input's blocks, whatever became of the last: it is large. */
static void decode(kf_shard *s, int number)
{
	static kf_block_state *states[BLOCKS][sizeof codecs / sizeof *codecs];
	struct kf_block_ref *b = s->blocks;
	int codec = 0;
	kf_err err;
	kf_status rc;

	while (codecs[codec].kind != s->kind || codecs[codec].f32 != s->f32) codec++;
	if (!states[number][codec] && !(states[number][codec] = s->codec->new_state())) abort();
	s->state = states[number][codec];
	s->state->tokens_only = false;
	err.text[0] = 0;
	rc = s->codec->decode(s->state, b->data + KF_BLOCK_HEAD, b->size - KF_BLOCK_HEAD, b->docs, s->f32, &err);
	fuzz_answer(rc, &err);
	if (rc != KF_OK) return;
	b->doc = s->state->heads[0].head.doc;    /* the block's key in its shard */
	s->loaded = 1;
}

static void close_block(kf_shard *s)
{
	s->blocks = NULL;            /* the caller's */
	s->state = NULL;
	kf_shard_close(s);
}

static kf_status see_head(void *arg, const kf_head_n *h, kf_err *err)
{
	(void)arg, (void)err;
	fuzz_touch(h->head.id, strlen(h->head.id));
	return KF_OK;
}

/* ---- what records promise ---- */

static void promise(bool kept, const char *what)
{
	if (kept) return;
	fprintf(stderr, "broken: %s\n", what);
	abort();
}

static void see_tokens(const int32_t *tokens, const uint32_t *start, const uint8_t *context, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		promise(tokens[i] >= 0, "a token has an id");
		promise(start[i] <= start[i + 1], "starts ascend");
	}
	for (uint32_t p = 0; context && p <= n; p++) promise(context[p] <= 1, "context is 0 or 1");
}

/* Candidates of one position: descending, each with an id; the sum of their probabilities. */
static double see_list(const int32_t *ids, const float *lp, uint32_t n)
{
	double sum = 0;

	for (uint32_t j = 0; j < n; j++) {
		promise(ids[j] >= 0, "a candidate has an id");
		promise(lp[j] < .01f, "a probability is at most 1");
		promise(j == 0 || lp[j] <= lp[j - 1], "candidates descend");
		sum += exp(lp[j]);
	}
	return sum;
}

static void see_dist(const kf_dist_rec *r, bool f32)
{
	see_tokens(r->tokens, r->start, r->context, r->n);
	promise(r->off[0] == 0, "a record's candidates begin at 0");
	for (uint32_t p = 0; p <= r->n; p++) {
		const uint32_t n = r->off[p + 1] - r->off[p];

		promise(r->off[p] <= r->off[p + 1], "offsets ascend");
		promise(see_list(r->ids + r->off[p], r->lp + r->off[p], n) <= (f32 ? 1e9 : 1 + 1e-5), "a position's probabilities sum to at most 1");
		if (r->tail) promise(n ? r->tail[p] >= 0 && r->tail[p] <= 1 : isnan(r->tail[p]), "a tail is what the candidates leave");
		if (r->weight) promise(r->weight[p] >= 0 && r->weight[p] <= 1, "a weight is between 0 and 1");
		promise(!n || !r->context || !r->context[p], "context has no candidates");
	}
	for (uint32_t i = 0; i < r->n; i++) promise(!(r->ce[i] < -.01f), "a ce is not negative");
}

static void see_logits(const kf_logits_rec *r)
{
	see_tokens(r->tokens, r->start, r->context, r->n);
	promise(!r->has_path || (r->path_off[0] == 0 && r->extra_off[0] == 0), "offsets begin at 0");
	for (uint32_t p = 0; p <= r->n; p++) {
		const int32_t *ids = r->top_ids + (size_t)p * r->k;
		const bool there = kf_predicted(r, p);

		if (there) see_list(ids, r->top_lp + (size_t)p * r->k, r->k);
		for (uint32_t j = 0; !there && j < r->k; j++) promise(ids[j] == -1, "where nothing is predicted there are no candidates");
		if (p < r->n) promise(there ? r->ce[p] > -.01f : isnan(r->ce[p]), "a ce is there where a token is predicted");
		if (!r->has_path) continue;
		promise(r->extra_off[p] <= r->extra_off[p + 1] && (there || r->extra_off[p] == r->extra_off[p + 1]), "extra candidates' offsets ascend");
		see_list(r->extra_ids + r->extra_off[p], r->extra_lp + r->extra_off[p], r->extra_off[p + 1] - r->extra_off[p]);
		if (p == r->n) continue;
		promise(r->path_off[p + 1] - r->path_off[p] == kf_interior(r->start[p], r->start[p + 1]), "a token has a mass for each of its inner bytes");
		for (uint32_t x = r->path_off[p]; x < r->path_off[p + 1]; x++) promise(there ? r->path_nlm[x] > -.01f : isnan(r->path_nlm[x]), "a mass is a probability");
	}
}

/* Reading tokens alone gives those of the whole. */
static void same_tokens(const kf_logits_rec *a, const kf_logits_rec *b)
{
	promise(a->n == b->n && a->bos == b->bos && !a->context == !b->context, "tokens alone are as many");
	promise(!a->n || memcmp(a->tokens, b->tokens, a->n * sizeof *a->tokens) == 0, "tokens alone are the same");
	promise(memcmp(a->start, b->start, (a->n + 1) * sizeof *a->start) == 0, "they start at the same bytes");
	promise(!a->context || memcmp(a->context, b->context, a->n + 1) == 0, "the same are context");
}

/* ---- what comes of them ---- */

static kf_micro micro;

static void use_dist(const kf_dist_rec *r, kf_err *err)
{
	const kf_pack pack = { .V = 421, .context = 48, .bos = 0, .fusion = true };   /* qwen2-tiny's */

	kf_micro_clear(&micro);
	err->text[0] = 0;
	const kf_status rc = kf_micro_add(&micro, &pack, r, err);
	fuzz_answer(rc, err);
	if (rc != KF_OK) return;
	kf_micro_finish(&micro);
	fuzz_touch(micro.tokens, (size_t)micro.T * sizeof *micro.tokens);
	fuzz_touch(micro.labels, (size_t)micro.T * sizeof *micro.labels);
}

static void fuse(uint8_t how, const kf_logits_rec *target, const kf_dist_rec *aligned, kf_arena *arena, kf_err *err)
{
	static const kf_fuse_function functions[] = { KF_FUSE_MIN_CE, KF_FUSE_AVG_CE, KF_FUSE_DYNAMIC, KF_FUSE_DOCUMENT };
	kf_fuse_how o = { .function = functions[how % 4], .level = how % 4 < 2 ? (kf_fuse_level)(how / 4 % 2) : KF_FUSE_BY_SEQUENCE, .with_target = how & 64,
		.tails = (kf_fuse_tails)(how / 8 % 3), .weight = how & 128 ? KF_FUSE_WEIGHT_POSITION : KF_FUSE_WEIGHT_NONE, .full = .1,
		.follow = { .rate = .5, .forget = .99, .share = .01 } };
	kf_dist_rec out;
	kf_fuse_tally tally;
	kf_status rc;

	err->text[0] = 0;
	rc = kf_fuse_doc(&o, target, aligned, 1, arena, &out, &tally, err);
	fuzz_answer(rc, err);
	if (rc != KF_OK) return;
	see_dist(&out, false);
	use_dist(&out, err);
}

static void use(uint8_t how, const kf_logits_rec *l, int n_l, const kf_dist_rec *d, int n_d, kf_arena *arena, kf_err *err)
{
	kf_dist_rec aligned;
	kf_status rc;

	for (int i = 0; i < n_d; i++) {
		use_dist(&d[i], err);
		if (n_l) fuse(how, &l[n_l - 1], &d[i], arena, err);
	}
	if (n_l < 2) return;
	err->text[0] = 0;
	rc = kf_align_doc(aligner_of(how % 3, how / 3 % 2), &l[0], &l[1], arena, &aligned, NULL, err);
	fuzz_answer(rc, err);
	if (rc != KF_OK) return;
	see_dist(&aligned, false);
	fuse(how, &l[1], &aligned, arena, err);
}

/* The next document of every block; false where one has none. */
static bool next(uint8_t how, kf_shard *const *s, int n, kf_arena *arena)
{
	kf_logits_rec l[BLOCKS], alone;
	kf_dist_rec d[BLOCKS];
	kf_corpus_rec c;
	int n_l = 0, n_d = 0;
	kf_err err;

	for (int i = 0; i < n; i++) {
		kf_status rc;

		err.text[0] = 0;
		if (s[i]->kind == KF_SET_CORPUS) {
			if ((rc = kf_shard_next_corpus(s[i], arena, &c, &err)) == KF_OK) fuzz_touch(c.text, c.head.bytes);
		} else if (s[i]->kind == KF_SET_LOGITS) {
			const uint64_t at = s[i]->next;

			if ((rc = kf_shard_next_logits(s[i], arena, &l[n_l], &err)) == KF_OK) {
				see_logits(&l[n_l]);
				s[i]->next = at;
				if (at == 0) s[i]->loaded = 0;    /* so that it is decoded for its tokens alone, once */
				promise(kf_shard_next_tokens(s[i], arena, &alone, &err) == KF_OK, "tokens can be read where all can");
				same_tokens(&l[n_l++], &alone);
			}
		} else if ((rc = kf_shard_next_dist(s[i], arena, &d[n_d], &err)) == KF_OK) {
			see_dist(&d[n_d++], s[i]->f32);
		}
		fuzz_answer(rc, &err);
		if (rc != KF_OK) return false;
	}
	use(how, l, n_l, d, n_d, arena, &err);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static kf_buf value[BLOCKS];
	struct kf_block_ref ref[BLOCKS];
	kf_shard *s[BLOCKS];
	kf_cur in = kf_cur_of(data, size);
	const uint8_t how = kf_cur_u8(&in);
	kf_arena arena;
	int n = 0;

	aligner_of(0, 0);
	while (n < BLOCKS && kf_cur_left(&in)) {
		s[n] = open_block(&in, &value[n], &ref[n]);
		decode(s[n], n);
		n++;
	}
	kf_arena_init(&arena);
	for (int i = 0; n && i < 100 && next(how, s, n, &arena); i++) kf_arena_reset(&arena);
	for (int i = 0; i < n; i++) {
		kf_err err;

		err.text[0] = 0;
		fuzz_answer(kf_shard_heads(s[i], see_head, NULL, &err), &err);
		close_block(s[i]);
	}
	kf_arena_release(&arena);
	return 0;
}
