#include "common/model/decode.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/machine.h"
#include "common/base/rng.h"
#include "common/model/stream.h"
#include "common/ops/cpu/vmath.h"

enum { SLOTS = 128 };          /* sequences at once, at most: each step reads all weights, whatever the rows */

/* A sequence at work. */
typedef struct {
	kf_decoding *g;            /* NULL: free */
	int32_t *token;            /* (room) the prompt and what was generated */
	int n, kept;               /* tokens; of which the cache holds */
	int row;                   /* of the cache, its first */
	kf_rng rng;
} slot;

typedef struct {
	kf_model *m;
	const kf_tokenizer *t;
	const kf_decode_opts *o;
	kf_kv *kv;
	slot slot[SLOTS];
	int n_slots, room;         /* tokens a slot */
	/* A batch: sequence i is slot who[i]. */
	int32_t *tokens;           /* (cap) */
	int cap, S;
	int32_t offset[SLOTS + 1], row[SLOTS], before[SLOTS], last[SLOTS], next[SLOTS];
	int who[SLOTS];
	float *z;                  /* (SLOTS, V) */
	kf_weighed *scratch;       /* (V) */
} generator;

/* ---- choosing a token ---- */

static int heavier(const void *a, const void *b)
{
	const kf_weighed *x = a, *y = b;

	if (x->p != y->p) return x->p < y->p ? 1 : -1;
	return (x->id > y->id) - (x->id < y->id);
}

int32_t kf_sample(float *z, int V, double temperature, double top_p, double u, kf_weighed *scratch)
{
	const float max = kf_vmax(z, (size_t)V), scale = (float)(1 / temperature);
	double sum, at, part = 0;
	float least;
	size_t n = 0, k = 0, i = 0;

	for (int v = 0; v < V; v++) z[v] = (z[v] - max) * scale;
	sum = kf_vexp_sum(z, (size_t)V, 0);
	if (!isfinite(sum)) return -1;
	if (top_p >= 1) {
		int32_t last = 0;

		at = u * sum;
		for (int v = 0; v < V; v++) {
			if (z[v] > 0) last = v;
			if ((at -= z[v]) < 0) return v;
		}
		return last;       /* rounding */
	}
	/* All tokens below this together are less than 1 - top_p: none of them is among those that reach it. */
	least = (float)((1 - top_p) / V * sum);
	for (int v = 0; v < V; v++)
		if (z[v] >= least) scratch[n++] = (kf_weighed){ z[v], v };
	qsort(scratch, n, sizeof *scratch, heavier);
	while (k < n && part < top_p * sum) part += scratch[k++].p;
	for (at = u * part; i + 1 < k && (at -= scratch[i].p) >= 0;) i++;
	return scratch[i].id;
}

/* ---- the cache's slots ---- */

static kf_status no_memory(kf_err *err) { return kf_fail(err, KF_ENOMEM, "no memory to generate text"); }

static void release(generator *x)
{
	for (int i = 0; i < x->n_slots; i++) kf_free(x->slot[i].token);
	kf_kv_free(x->kv);
	kf_free(x->tokens);
	kf_free(x->z);
	kf_free(x->scratch);
}

static kf_status make(generator *x, const kf_decoding *g, size_t n, kf_err *err)
{
	const kf_arch *a = kf_model_arch(x->m);
	size_t fit;

	for (size_t i = 0; i < n; i++) {
		if (g[i].n < 1 || g[i].most < 1 || g[i].n > a->context - g[i].most)
			return kf_fail(err, KF_EINVAL, "a prompt of %d tokens and %d to generate do not fit the context of %d", g[i].n, g[i].most,
				a->context);
		if (g[i].n + g[i].most > x->room) x->room = g[i].n + g[i].most;
	}
	fit = x->o->cache_bytes / ((size_t)x->room * kf_kv_bytes(x->m));
	x->n_slots = fit < 1 ? 1 : fit > SLOTS ? SLOTS : (int)fit;
	if ((size_t)x->n_slots > n) x->n_slots = (int)n;
	/* where what was kept does not serve, sequences are run whole, all at once */
	x->cap = x->n_slots * x->room;
	for (int i = 0; i < x->n_slots; i++) {
		x->slot[i] = (slot){ .row = i * x->room };
		if (!(x->slot[i].token = kf_alloc((size_t)x->room, sizeof(int32_t)))) return no_memory(err);
	}
	if (!(x->tokens = kf_alloc((size_t)x->cap, sizeof *x->tokens))) return no_memory(err);
	if (x->o->temperature > 0) {
		x->z = kf_alloc((size_t)x->n_slots * (size_t)a->V, sizeof *x->z);
		x->scratch = kf_alloc((size_t)a->V, sizeof *x->scratch);
		if (!x->z || !x->scratch) return no_memory(err);
	}
	/* where nothing can be kept, sequences are run whole at every step */
	return kf_model_keeps(x->m, 1, 1) ? kf_kv_new(x->m, x->n_slots * x->room, &x->kv, err) : KF_OK;
}

static void begin(const generator *x, slot *s, kf_decoding *g)
{
	s->g = g;
	s->n = g->n;
	s->kept = 0;
	memcpy(s->token, g->prompt, (size_t)g->n * sizeof *s->token);
	kf_rng_seed(&s->rng, x->o->seed * 0x9e3779b97f4a7c15u ^ (g->stream + 1) * 0xd1342543de82ef95u);
	kf_buf_clear(&g->text);
	g->tokens = 0;
	g->ended = KF_ENDED_LENGTH;
}

/* ---- a step ---- */

/* What each sequence has that was not run, and as many new ones as there is room for. */
static size_t fill(generator *x, kf_decoding *g, size_t n, size_t at)
{
	int prompts = 0;

	x->S = 0;
	x->offset[0] = 0;
	for (int i = 0; i < x->n_slots; i++) {
		slot *s = &x->slot[i];
		int T;

		if (!s->g && at < n && (prompts == 0 || prompts + g[at].n <= x->o->batch_tokens)) {
			prompts += g[at].n;
			begin(x, s, &g[at++]);
		}
		if (!s->g) continue;
		if (!kf_model_keeps(x->m, s->kept, s->n)) s->kept = 0;
		T = s->n - s->kept;
		memcpy(x->tokens + x->offset[x->S], s->token + s->kept, (size_t)T * sizeof *s->token);
		x->who[x->S] = i;
		x->row[x->S] = s->row;
		x->before[x->S] = s->kept;
		x->offset[x->S + 1] = x->offset[x->S] + T;
		x->last[x->S] = x->offset[x->S + 1] - 1;
		x->S++;
		s->kept = s->n;
	}
	return at;
}

static kf_status choose(generator *x, kf_err *err)
{
	const kf_before before = { x->kv, x->row, x->before };
	const kf_batch b = { .T = x->offset[x->S], .S = x->S, .tokens = x->tokens, .offset = x->offset,
		.before = x->kv ? &before : NULL };
	const kf_score_query q = { .k = 1, .rows = x->last, .n_rows = x->S };
	const int V = kf_model_arch(x->m)->V;
	float ce[SLOTS], lp[SLOTS];
	kf_score out = { .ce = ce, .top_ids = x->next, .top_lp = lp };
	kf_status rc;

	if (!(x->o->temperature > 0)) return kf_model_score(x->m, &b, &q, &out, err);
	if ((rc = kf_model_logits(x->m, &b, x->last, x->S, x->z, err)) != KF_OK) return rc;
	for (int i = 0; i < x->S; i++) {
		float *z = x->z + (size_t)i * (size_t)V;

		x->next[i] = kf_sample(z, V, x->o->temperature, x->o->top_p, kf_rng_real(&x->slot[x->who[i]].rng), x->scratch);
		if (x->next[i] < 0) return kf_fail(err, KF_EDATA, "a logit is not a finite number: the model's weights are damaged");
	}
	return KF_OK;
}

/* Where the first stop string begins of those that end after byte `from`; SIZE_MAX: nowhere. */
static size_t find_stop(const kf_decoding *g, size_t from)
{
	size_t found = SIZE_MAX;

	for (int i = 0; i < g->n_stop; i++) {
		size_t n = strlen(g->stop[i]), at = from >= n ? from - n + 1 : 0;

		for (; at + n <= g->text.len && at < found; at++)
			if (memcmp(g->text.data + at, g->stop[i], n) == 0) found = at;
	}
	return found;
}

static bool ends(const generator *x, const kf_decoding *g, int32_t id)
{
	bool is = id == kf_tokenizer_eos(x->t) || id == g->end;

	for (int i = 0; i < x->o->n_end && !is; i++) is = id == x->o->end[i];
	return is;
}

/* Put token id to a sequence; true when that ends it. */
static bool put(const generator *x, slot *s, int32_t id)
{
	kf_decoding *g = s->g;
	size_t had = g->text.len, stop;
	const uint8_t *bytes;
	uint32_t n;

	s->token[s->n++] = id;
	g->tokens++;
	if (ends(x, g, id)) {
		g->ended = KF_ENDED_TOKEN;
		return true;
	}
	/* a model may have rows for more tokens than the tokenizer has */
	if (id < kf_tokenizer_size(x->t) && (bytes = kf_tokenizer_bytes(x->t, id, &n)) && n) kf_buf_put(&g->text, bytes, n);
	if ((stop = find_stop(g, had)) != SIZE_MAX) {
		g->text.len = stop;
		g->ended = KF_ENDED_STOP;
		return true;
	}
	return g->tokens == g->most;
}

kf_status kf_decode(kf_model *m, const kf_tokenizer *t, const kf_decode_opts *o, kf_decoding *g, size_t n,
	kf_status (*done)(void *arg, size_t tokens, size_t ended, kf_err *err), void *arg, kf_err *err)
{
	generator x = { .m = m, .t = t, .o = o };
	size_t at = 0;
	kf_status rc;

	if (!n) return KF_OK;
	rc = make(&x, g, n, err);
	while (rc == KF_OK) {
		size_t ended = 0;

		at = fill(&x, g, n, at);
		if (!x.S || (rc = choose(&x, err)) != KF_OK) break;
		for (int i = 0; i < x.S && rc == KF_OK; i++) {
			slot *s = &x.slot[x.who[i]];

			if (!put(&x, s, x.next[i])) continue;
			rc = kf_buf_check(&s->g->text, err);
			s->g = NULL;
			ended++;
		}
		if (rc == KF_OK && done) rc = done(arg, (size_t)x.S, ended, err);
	}
	release(&x);
	return rc;
}

kf_status kf_decode_ends(const kf_weights *w, const kf_tokenizer *t, kf_arena *arena, const int32_t **out, int *n, kf_err *err)
{
	const bool folder = kf_weights_config(w) != NULL;
	const json_t *ids = kf_weights_ends(w);
	const size_t most = json_is_array(ids) ? json_array_size(ids) : ids != NULL;
	int32_t *end;

	if (!(end = KF_ARENA_NEW(arena, int32_t, folder ? most + 1 : KF_NAMED_ENDS))) return no_memory(err);
	*out = end;
	*n = 0;
	for (size_t i = 0; i < most; i++) {
		const json_t *id = json_is_array(ids) ? json_array_get(ids, i) : ids;

		if (json_is_integer(id) && json_integer_value(id) >= 0 && json_integer_value(id) <= INT32_MAX) end[(*n)++] = (int32_t)json_integer_value(id);
	}
	if (!folder) *n = kf_tokenizer_named_ends(t, end);
	return KF_OK;
}

bool kf_decode_resident(const kf_weights *w)
{
	const kf_memory memory = kf_memory_now("");

	return !memory.available || 4 * (double)kf_stream_sizes_of(w).values < (double)memory.available / 2;
}
