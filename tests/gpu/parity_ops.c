#include "tests/gpu/parity.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { CPU, DEV };

/* An array on both sides. */
typedef struct {
	void *at[2];
	size_t n;
	kf_num_type type;        /* on the backend; float32 on the CPU */
} both;

#define EACH for (int d = CPU; d <= DEV; d++)
#define X (p->x[d])
#define OPS (p->x[d]->ops)

void kf_parity_note(kf_parity *p, const char *name, double error, double allowed, const char *why)
{
	p->done++;
	p->failed += !(error <= allowed);
	p->report(p, name, error, allowed, why);
}

double kf_parity_error(const float *got, const float *want, size_t n)
{
	double scale = 1e-6, worst = 0;

	for (size_t i = 0; i < n; i++) scale = fmax(scale, fabs((double)want[i]));
	for (size_t i = 0; i < n; i++) {
		double e = fabs((double)got[i] - (double)want[i]);

		if (isnan(want[i]) && isnan(got[i])) continue;
		if (!(e <= worst)) worst = e;
	}
	return worst / scale;
}

double kf_parity_allowed(const kf_parity *p, double f32, double bf16)
{
	return p->x[DEV]->num == KF_NUM_BF16 ? bf16 : f32;
}

static void drop(kf_parity *p, both *b)
{
	EACH if (b->at[d]) OPS->free(X, b->at[d]);
	*b = (both){ 0 };
}

/* Host numbers, as the backend can hold them, on both sides. */
static both share(kf_parity *p, const float *v, size_t n, kf_num_type type)
{
	both b = { .n = n, .type = type };
	kf_err err;

	EACH b.at[d] = OPS->alloc(X, n ? n : 1, d == CPU ? sizeof *v : kf_num_size(type));
	if (!b.at[CPU] || !b.at[DEV] || p->x[DEV]->ops->put_num(p->x[DEV], b.at[DEV], type, v, n, &err) != KF_OK ||
	    p->x[DEV]->ops->get_num(p->x[DEV], b.at[CPU], b.at[DEV], type, n, &err) != KF_OK)
		kf_parity_note(p, "memory", NAN, 0, b.at[DEV] ? err.text : "no memory");
	return b;
}

static both random_of(kf_parity *p, size_t n, double deviation, kf_num_type type)
{
	float *v = kf_alloc(n, sizeof *v);
	both b;

	for (size_t i = 0; i < n; i++) v[i] = (float)(deviation * kf_rng_normal(&p->rng));
	b = share(p, v, n, type);
	kf_free(v);
	return b;
}

static both nums(kf_parity *p, size_t n)
{
	return random_of(p, n, 1, p->x[DEV]->num);
}

static both floats(kf_parity *p, size_t n)
{
	return random_of(p, n, 1, KF_NUM_F32);
}

/* Results of the two sides. What is left by a failed op is compared as well: the first failure says why. */
static void same(kf_parity *p, const char *op, const char *what, both *b, double f32, double bf16, kf_status rc, const kf_err *err)
{
	float *got = kf_alloc(b->n ? b->n : 1, sizeof *got);
	kf_err own = { 0 };
	char name[160];

	snprintf(name, sizeof name, "%s: %s", op, what);
	if (rc == KF_OK && (rc = p->x[DEV]->ops->get_num(p->x[DEV], got, b->at[DEV], b->type, b->n, &own)) != KF_OK) err = &own;
	if (rc != KF_OK)
		kf_parity_note(p, name, NAN, 0, err->text);
	else
		kf_parity_note(p, name, kf_parity_error(got, b->at[CPU], b->n), kf_parity_allowed(p, f32, bf16), NULL);
	kf_free(got);
}

static void linear(kf_parity *p, int T, int N, int K)
{
	both in = nums(p, (size_t)T * (size_t)K), w = random_of(p, (size_t)N * (size_t)K, 1 / sqrt(K), p->x[DEV]->num), bias = floats(p, (size_t)N),
		y = nums(p, (size_t)T * (size_t)N), dy = nums(p, (size_t)T * (size_t)N), dx = nums(p, (size_t)T * (size_t)K),
		dw = nums(p, (size_t)N * (size_t)K), db = floats(p, (size_t)N);
	kf_status rc = KF_OK, r;
	kf_err err;
	char name[80];

	snprintf(name, sizeof name, "linear %d %d %d", T, N, K);
	for (int add = 0; add < 2; add++) {
		EACH {
			const kf_mat m = { .rows = N, .cols = K, .num = w.at[d] };

			if ((r = OPS->linear(X, y.at[d], in.at[d], &m, add ? NULL : bias.at[d], T, add, &err)) != KF_OK ||
			    (r = OPS->linear_dx(X, dx.at[d], dy.at[d], &m, T, add, &err)) != KF_OK ||
			    (r = OPS->linear_dw(X, dw.at[d], add ? NULL : db.at[d], dy.at[d], in.at[d], T, N, K, &err)) != KF_OK)
				rc = r;
		}
		same(p, name, add ? "y, added" : "y", &y, 1e-5, 0.01, rc, &err);
		same(p, name, add ? "dx, added" : "dx", &dx, 1e-5, 0.01, rc, &err);
		same(p, name, add ? "dw, again" : "dw", &dw, 1e-5, 0.01, rc, &err);
	}
	same(p, name, "db", &db, 1e-5, 1e-4, rc, &err);
	both *const all[] = { &in, &w, &bias, &y, &dy, &dx, &dw, &db };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) drop(p, all[i]);
}

static int32_t *indices(kf_parity *p, int n, int below)
{
	int32_t *v = kf_alloc((size_t)n, sizeof *v);

	for (int i = 0; i < n; i++) v[i] = (int32_t)kf_rng_below(&p->rng, (uint64_t)below);
	return v;
}

static void embedding(kf_parity *p, int T, int V, int C)
{
	both table = nums(p, (size_t)V * (size_t)C), y = nums(p, (size_t)T * (size_t)C), dy = nums(p, (size_t)T * (size_t)C),
		dt = nums(p, (size_t)V * (size_t)C);
	int32_t *tokens = indices(p, T, V);
	kf_status rc = KF_OK, r;
	kf_err err;

	EACH {
		const kf_mat m = { .rows = V, .cols = C, .num = table.at[d] };

		if ((r = OPS->embed(X, y.at[d], &m, tokens, 1.5f, T, &err)) != KF_OK ||
		    (r = OPS->embed_dw(X, dt.at[d], dy.at[d], tokens, 1.5f, T, V, C, &err)) != KF_OK)
			rc = r;
	}
	same(p, "embed", "y", &y, 1e-6, 0.005, rc, &err);
	same(p, "embed", "dtable", &dt, 1e-5, 0.01, rc, &err);
	both *const all[] = { &table, &y, &dy, &dt };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) drop(p, all[i]);
	kf_free(tokens);
}

static void norms(kf_parity *p, int rows, int C)
{
	size_t n = (size_t)rows * (size_t)C;
	both in = nums(p, n), w = floats(p, (size_t)C), b = floats(p, (size_t)C), y = nums(p, n), stat = floats(p, 2 * (size_t)rows),
		dy = nums(p, n), dx = nums(p, n), dw = floats(p, (size_t)C), db = floats(p, (size_t)C);
	kf_err err;
	char name[80];

	snprintf(name, sizeof name, "rmsnorm %d %d", rows, C);
	EACH {
		OPS->rmsnorm(X, y.at[d], stat.at[d], in.at[d], w.at[d], 1e-5f, rows, C);
		OPS->rmsnorm_dx(X, dx.at[d], dw.at[d], dy.at[d], in.at[d], w.at[d], stat.at[d], rows, C);
	}
	same(p, name, "y", &y, 1e-5, 0.005, KF_OK, &err);
	same(p, name, "dx", &dx, 1e-5, 0.005, KF_OK, &err);
	same(p, name, "dw", &dw, 1e-5, 1e-4, KF_OK, &err);
	snprintf(name, sizeof name, "layernorm %d %d", rows, C);
	EACH {
		OPS->layernorm(X, y.at[d], stat.at[d], in.at[d], w.at[d], b.at[d], 1e-5f, rows, C);
		OPS->layernorm_dx(X, dx.at[d], dw.at[d], db.at[d], dy.at[d], in.at[d], w.at[d], stat.at[d], rows, C);
	}
	same(p, name, "y", &y, 1e-5, 0.005, KF_OK, &err);
	same(p, name, "statistics", &stat, 1e-5, 1e-4, KF_OK, &err);
	same(p, name, "dx", &dx, 1e-5, 0.01, KF_OK, &err);
	same(p, name, "dw", &dw, 1e-5, 1e-4, KF_OK, &err);
	same(p, name, "db", &db, 1e-5, 1e-4, KF_OK, &err);
	both *const all[] = { &in, &w, &b, &y, &stat, &dy, &dx, &dw, &db };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) drop(p, all[i]);
}

/* T rows in sequences of uneven lengths, one of them empty if there is to be such: libraries may leave these to our own kernels. */
static int sequences(int T, bool empty, int32_t *offset)
{
	int S = 0, step = 1;

	for (offset[0] = 0; offset[S] < T; S++, step = step * 3 + 1) {
		int end = offset[S] + step;

		offset[S + 1] = end < T ? end : T;
		if (S == 1 && empty) {
			offset[S + 2] = offset[S + 1];
			S++;
		}
	}
	return S;
}

typedef struct {
	const char *name;
	int H, G, D, R, window;
	float cap;
	bool slopes;
} attention_case;

static void attention(kf_parity *p, const attention_case *c, int T, bool empty)
{
	int32_t offset[64];
	int S = sequences(T, empty, offset);
	size_t qn = (size_t)T * (size_t)(c->H * c->D), kn = (size_t)T * (size_t)(c->G * c->D);
	both q = nums(p, qn), k = nums(p, kn), v = nums(p, kn), out = nums(p, qn), lse = floats(p, (size_t)(T * c->H)), dout = nums(p, qn),
		dq = nums(p, qn), dk = nums(p, kn), dv = nums(p, kn), fused = nums(p, qn + 2 * kn), slopes, freq;
	float host[256];
	kf_status rc = KF_OK, r;
	kf_err err;
	char name[160];

	snprintf(name, sizeof name, "%s%s", c->name, empty ? ", an empty sequence among them" : "");

	for (int h = 0; h < c->H; h++) host[h] = 1.f / (float)(2 << h);
	slopes = share(p, host, (size_t)c->H, KF_NUM_F32);
	for (int i = 0; i < c->R / 2; i++) host[i] = powf(10000, -2.f * (float)i / (float)c->R);
	freq = share(p, host, (size_t)c->R / 2, KF_NUM_F32);
	EACH {
		const kf_attn a = { .H = c->H, .G = c->G, .D = c->D, .scale = 1 / sqrtf((float)c->D), .window = c->window, .cap = c->cap,
			.slopes = c->slopes ? slopes.at[d] : NULL };
		const kf_rotary rot = { freq.at[d], c->R, 1 };

		for (int grouped = 0; grouped < 2; grouped++) {
			OPS->split_qkv(X, fused.at[d], q.at[d], k.at[d], v.at[d], T, &a, grouped, false);
			OPS->split_qkv(X, fused.at[d], q.at[d], k.at[d], v.at[d], T, &a, !grouped, true);
		}
		if (c->R) {
			OPS->rope(X, q.at[d], &rot, offset, S, c->H, c->D, false);
			OPS->rope(X, k.at[d], &rot, offset, S, c->G, c->D, true);
		}
		if ((r = OPS->attention(X, out.at[d], lse.at[d], q.at[d], k.at[d], v.at[d], offset, S, &a, &err)) != KF_OK ||
		    (r = OPS->attention_dx(X, dq.at[d], dk.at[d], dv.at[d], dout.at[d], out.at[d], lse.at[d], q.at[d], k.at[d], v.at[d],
		     offset, S, &a, &err)) != KF_OK)
			rc = r;
	}
	same(p, name, "split and turned q", &q, 1e-5, 0.01, rc, &err);
	same(p, name, "split and turned k", &k, 1e-5, 0.01, rc, &err);
	same(p, name, "joined", &fused, 0, 0, rc, &err);
	same(p, name, "out", &out, 1e-5, 0.01, rc, &err);
	same(p, name, "log-sum-exp", &lse, 1e-5, 0.01, rc, &err);
	same(p, name, "dq", &dq, 5e-5, 0.03, rc, &err);
	same(p, name, "dk", &dk, 5e-5, 0.03, rc, &err);
	same(p, name, "dv", &dv, 5e-5, 0.02, rc, &err);
	both *const all[] = { &q, &k, &v, &out, &lse, &dout, &dq, &dk, &dv, &fused, &slopes, &freq };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) drop(p, all[i]);
}

/* Sequences that go on, after rows of another place. */
static void attention_after(kf_parity *p, const attention_case *c, int T)
{
	enum { PAST = 1200 };
	int32_t offset[64], n[64], row[64], *index = kf_alloc((size_t)T, sizeof *index);
	int S = sequences(T, true, offset);
	size_t key = (size_t)(c->G * c->D), qn = (size_t)T * (size_t)(c->H * c->D), kn = (size_t)T * key, pn = (size_t)(PAST + T) * key;
	both q = nums(p, qn), k = nums(p, kn), v = nums(p, kn), pk = nums(p, pn), pv = nums(p, pn), out = nums(p, qn), slopes, freq;
	float host[256];
	kf_status rc = KF_OK, r;
	kf_err err;
	char name[160];

	for (int h = 0; h < c->H; h++) host[h] = 1.f / (float)(2 << h);
	slopes = share(p, host, (size_t)c->H, KF_NUM_F32);
	for (int i = 0; i < c->R / 2; i++) host[i] = powf(10000, -2.f * (float)i / (float)c->R);
	freq = share(p, host, (size_t)c->R / 2, KF_NUM_F32);
	for (int s = 0; s < S; s++) {
		n[s] = s % 3 == 2 ? 0 : (int32_t)kf_rng_below(&p->rng, 700);
		row[s] = (int32_t)kf_rng_below(&p->rng, (uint64_t)(PAST - n[s]));
	}
	for (int t = 0; t < T; t++) index[t] = PAST + T - 1 - t;
	EACH {
		const kf_attn a = { .H = c->H, .G = c->G, .D = c->D, .scale = 1 / sqrtf((float)c->D), .window = c->window, .cap = c->cap,
			.slopes = c->slopes ? slopes.at[d] : NULL };
		const kf_rotary rot = { freq.at[d], c->R, 1 };
		const kf_past past = { pk.at[d], pv.at[d], row, n };

		if (c->R) OPS->rope_after(X, q.at[d], &rot, offset, n, S, c->H, c->D);
		if ((r = OPS->attention_after(X, out.at[d], q.at[d], k.at[d], v.at[d], offset, S, &past, &a, &err)) != KF_OK) rc = r;
		OPS->store(X, pv.at[d], v.at[d], index, T, (int)key);
	}
	snprintf(name, sizeof name, "%s, going on", c->name);
	same(p, name, "turned q", &q, 1e-5, 0.01, rc, &err);
	same(p, name, "out", &out, 1e-5, 0.01, rc, &err);
	same(p, name, "stored", &pv, 0, 0, rc, &err);
	both *const all[] = { &q, &k, &v, &pk, &pv, &out, &slopes, &freq };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) drop(p, all[i]);
	kf_free(index);
}

static void activations(kf_parity *p, size_t n)
{
	static const char *const NAMES[] = { "silu", "gelu-tanh", "gelu" };

	for (int act = KF_ACT_SILU; act <= KF_ACT_GELU; act++)
		for (int gated = 0; gated < 2; gated++) {
			both gate = nums(p, n), up = nums(p, n), y = nums(p, n), dy = nums(p, n), dgate = nums(p, n), dup = nums(p, n);
			kf_err err;
			char name[40];

			snprintf(name, sizeof name, "%s%s", NAMES[act], gated ? ", gated" : "");
			EACH {
				OPS->glu(X, y.at[d], gate.at[d], gated ? up.at[d] : NULL, (kf_act)act, n);
				OPS->glu_dx(X, dgate.at[d], gated ? dup.at[d] : NULL, dy.at[d], gate.at[d], gated ? up.at[d] : NULL, (kf_act)act, n);
				OPS->add(X, y.at[d], dy.at[d], n);
			}
			same(p, name, "y and a sum", &y, 1e-5, 0.01, KF_OK, &err);
			same(p, name, "dgate", &dgate, 1e-5, 0.01, KF_OK, &err);
			same(p, name, "dup", &dup, 1e-5, 0.01, KF_OK, &err);
			both *const all[] = { &gate, &up, &y, &dy, &dgate, &dup };
			for (size_t i = 0; i < sizeof all / sizeof *all; i++) drop(p, all[i]);
		}
}

static void experts(kf_parity *p, int T, int E, int k, int C)
{
	const int n = T * k;
	const size_t size = (size_t)n;
	both logits = nums(p, (size_t)(T * E)), weight = floats(p, size), dweight = floats(p, size), dlogits = nums(p, (size_t)(T * E)),
		in = nums(p, (size_t)(T * C)), rows = nums(p, size * (size_t)C), sum = nums(p, (size_t)(T * C)), dots = floats(p, size),
		moved = floats(p, size), back = floats(p, size);
	int32_t *index[2] = { kf_alloc(size, 4), kf_alloc(size, 4) }, *token = kf_alloc(size, 4), *place = kf_alloc(size, 4);
	kf_status rc = KF_OK, r;
	kf_err err;

	for (int i = 0; i < n; i++) {
		place[i] = (i * 7 + 3) % n;   /* n is no multiple of 7: a permutation */
		token[i] = place[i] / k;
	}
	EACH {
		if ((r = OPS->route(X, weight.at[d], index[d], logits.at[d], T, E, k, &err)) != KF_OK) rc = r;
		OPS->route_dx(X, dlogits.at[d], dweight.at[d], weight.at[d], index[d], T, E, k);
		OPS->permute(X, moved.at[d], weight.at[d], place, n, false);
		OPS->permute(X, back.at[d], moved.at[d], place, n, true);
		OPS->gather(X, rows.at[d], in.at[d], token, moved.at[d], n, C);
		OPS->scatter(X, sum.at[d], rows.at[d], token, moved.at[d], n, C);
		OPS->dots(X, dots.at[d], rows.at[d], in.at[d], token, n, C);
	}
	kf_parity_note(p, "route: the choice", memcmp(index[CPU], index[DEV], size * 4) ? 1 : 0, 0, rc == KF_OK ? NULL : err.text);
	same(p, "route", "weights", &weight, 1e-5, 1e-4, rc, &err);
	same(p, "route", "dlogits", &dlogits, 1e-5, 0.01, rc, &err);
	same(p, "permute", "there and back", &back, 1e-5, 1e-4, rc, &err);
	same(p, "gather", "rows", &rows, 1e-5, 0.01, rc, &err);
	same(p, "scatter", "sums", &sum, 1e-5, 0.01, rc, &err);
	same(p, "dots", "dots", &dots, 1e-5, 0.01, rc, &err);
	both *const all[] = { &logits, &weight, &dweight, &dlogits, &in, &rows, &sum, &dots, &moved, &back };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) drop(p, all[i]);
	EACH kf_free(index[d]);
	kf_free(token);
	kf_free(place);
}

static void keep_rows(kf_parity *p, int T, int C)
{
	both y = nums(p, (size_t)(T * C));
	int32_t *rows = kf_alloc((size_t)T, sizeof *rows);
	int n = 0;
	kf_err err;

	for (int t = 0; t < T; t++)
		if (t % 3 != 1) rows[n++] = t;
	EACH OPS->keep_rows(X, y.at[d], C, rows, n);
	y.n = (size_t)(n * C);
	same(p, "keep_rows", "y", &y, 0, 0, KF_OK, &err);
	drop(p, &y);
	kf_free(rows);
}

/* Sums of squares; zero; AdamW with float moments and in 8 bits. */
static void optimizer(kf_parity *p, size_t n)
{
	const size_t blocks = (n + KF_MOMENT_BLOCK - 1) / KF_MOMENT_BLOCK;
	const kf_num_type num = p->x[DEV]->num;
	kf_err err = { 0 };

	for (int eight = 0; eight < 2; eight++) {
		both w = nums(p, n), g = nums(p, n), m = floats(p, n), v = floats(p, n), sm = floats(p, blocks), sv = floats(p, blocks), master = { 0 };
		double sum[2];

		/* the device's weights begin as the master's rounding, and the CPU's weights are the master */
		if (num != KF_NUM_F32) master = share(p, w.at[CPU], n, KF_NUM_F32);
		EACH {
			OPS->zero(X, m.at[d], n * 4);
			OPS->zero(X, v.at[d], n * 4);
			OPS->zero(X, sm.at[d], blocks * 4);
			OPS->zero(X, sv.at[d], blocks * 4);
			const kf_num_type type = d == DEV ? num : KF_NUM_F32;

			sum[d] = OPS->sumsq(X, (const kf_nums[]){ { g.at[d], type, n }, { g.at[d], type, 0 }, { w.at[d], type, n / 2 } }, 3);
			for (int step = 1; step <= 3; step++) {
				kf_adamw a = { .type = d == DEV ? num : KF_NUM_F32, .w = w.at[d], .g = g.at[d], .master = d == DEV ? master.at[DEV] : NULL,
					.n = n, .salt = 5 };

				if (eight) {
					a.m8 = m.at[d];
					a.v8 = v.at[d];
					a.m_scale = sm.at[d];
					a.v_scale = sv.at[d];
				} else {
					a.m = m.at[d];
					a.v = v.at[d];
				}
				OPS->adamw(X, &a, &(kf_adamw_opts){ 0.5f, 1e-2f, 0.9f, 0.95f, 1e-8f, 0.1f, step });
			}
		}
		if (!eight) kf_parity_note(p, "sumsq", fabs(sum[DEV] - sum[CPU]) / sum[CPU], 1e-6, NULL);
		/* a rounding of 8 bits that falls the other way moves a weight by a share of a step, of 1e-2 here and weights of up to 4 */
		same(p, eight ? "adamw, 8-bit moments" : "adamw", "w", &w, eight ? 5e-3 : 1e-5, eight ? 0.01 : 0.005, KF_OK, &err);
		if (!eight) same(p, "adamw", "m", &m, 1e-5, 1e-5, KF_OK, &err);
		if (!eight) same(p, "adamw", "v", &v, 1e-5, 1e-5, KF_OK, &err);
		both *const all[] = { &w, &g, &m, &v, &sm, &sv, &master };
		for (size_t i = 0; i < sizeof all / sizeof *all; i++) drop(p, all[i]);
	}
}

/* ---- the head ---- */

enum { TOP = 7, M = 3, EXTRA = 4 };

typedef struct { float *ce, *lp, *nlm, *elp; int32_t *ids, *en, *eids; } answers;

static answers answers_new(int T, int ranges)
{
	const size_t n = (size_t)T;

	return (answers){ kf_zalloc(n, 4), kf_zalloc(n * TOP, 4), kf_zalloc((size_t)ranges + 1, 4), kf_zalloc(n * EXTRA, 4), kf_zalloc(n * TOP, 4),
		kf_zalloc(n, 4), kf_zalloc(n * EXTRA, 4) };
}

static void answers_free(answers *a)
{
	kf_free(a->ce);
	kf_free(a->lp);
	kf_free(a->nlm);
	kf_free(a->elp);
	kf_free(a->ids);
	kf_free(a->en);
	kf_free(a->eids);
}

/* The share of ids that differ: near equals may change places where logits are rounded. */
static double differ(const int32_t *a, const int32_t *b, size_t n)
{
	size_t bad = 0;

	for (size_t i = 0; i < n; i++) bad += a[i] != b[i];
	return n ? (double)bad / (double)n : 0;
}

static void head_score(kf_parity *p, int T, int V, int C, float cap)
{
	both hidden = nums(p, (size_t)T * (size_t)C), w = random_of(p, (size_t)V * (size_t)C, 3 / sqrt(C), p->x[DEV]->num);
	int32_t *labels = indices(p, T, V), *order = kf_alloc((size_t)V, 4), *off = kf_alloc((size_t)T + 1, 4), *lo = kf_alloc((size_t)T * 3, 4),
		*hi = kf_alloc((size_t)T * 3, 4);
	answers a[2];
	kf_status rc = KF_OK, r;
	kf_err err = { 0 };
	int n = 0;
	char name[60];

	for (int v = 0; v < V; v++) order[v] = v;
	for (int v = V - 1; v > 0; v--) {
		int u = (int)kf_rng_below(&p->rng, (uint64_t)v + 1), t = order[v];

		order[v] = order[u];
		order[u] = t;
	}
	for (int t = 0; t < T; t++) {
		int l = 0, h = V;

		off[t] = n;
		for (int i = 0; i < t % 4; i++, n++) {
			l += (int)kf_rng_below(&p->rng, (uint64_t)(h - l) / 2 + 1);
			h -= (int)kf_rng_below(&p->rng, (uint64_t)(h - l) / 2 + 1);
			lo[n] = l;
			hi[n] = h;
		}
		if (t % 5 == 4) labels[t] = -1;
	}
	off[T] = n;
	snprintf(name, sizeof name, "head_score %d %d %d%s", T, V, C, cap > 0 ? ", capped" : "");
	EACH {
		const kf_mat m = { .rows = V, .cols = C, .num = w.at[d] };
		const kf_score_query q = { .k = TOP, .labels = labels, .order = order, .range_off = off, .range_lo = lo, .range_hi = hi,
			.extra_min = M, .extra_max = EXTRA, .cap = cap };
		kf_score s;

		a[d] = answers_new(T, n);
		s = (kf_score){ a[d].ce, a[d].ids, a[d].lp, a[d].nlm, a[d].en, a[d].eids, a[d].elp };
		if ((r = OPS->head_score(X, hidden.at[d], &m, T, &q, &s, &err)) != KF_OK) rc = r;
	}
	if (rc != KF_OK) {
		kf_parity_note(p, name, NAN, 0, err.text);
	} else {
		const struct { const char *what; float *x, *y; size_t n; } f[] = { { "cross-entropy", a[1].ce, a[0].ce, (size_t)T },
			{ "log-probabilities", a[1].lp, a[0].lp, (size_t)T * TOP }, { "masses", a[1].nlm, a[0].nlm, (size_t)n } };
		char full[120];

		for (size_t i = 0; i < sizeof f / sizeof *f; i++) {
			for (size_t j = 0; j < f[i].n; j++)   /* empty ranges: infinite on both sides */
				if (isinf(f[i].x[j]) && isinf(f[i].y[j])) f[i].x[j] = f[i].y[j] = 0;
			snprintf(full, sizeof full, "%s: %s", name, f[i].what);
			kf_parity_note(p, full, kf_parity_error(f[i].x, f[i].y, f[i].n), 2e-5, NULL);
		}
		snprintf(full, sizeof full, "%s: candidates", name);
		kf_parity_note(p, full, differ(a[1].ids, a[0].ids, (size_t)T * TOP), 0.002, NULL);
		snprintf(full, sizeof full, "%s: extra candidates", name);
		for (size_t t = 0; t < (size_t)T; t++)   /* what lies after a row's last is anyone's */
			for (int i = a[0].en[t]; i < EXTRA && a[0].en[t] >= 0; i++) a[1].eids[t * EXTRA + (size_t)i] = a[0].eids[t * EXTRA + (size_t)i];
		kf_parity_note(p, full, differ(a[1].en, a[0].en, (size_t)T) + differ(a[1].eids, a[0].eids, (size_t)T * EXTRA), 0.005, NULL);
	}
	EACH answers_free(&a[d]);
	drop(p, &hidden);
	drop(p, &w);
	kf_free(labels);
	kf_free(order);
	kf_free(off);
	kf_free(lo);
	kf_free(hi);
}

static void head_loss(kf_parity *p, int T, int V, int C, kf_tail_kind tail, double tau, float cap)
{
	both hidden = nums(p, (size_t)T * (size_t)C), w = random_of(p, (size_t)V * (size_t)C, 3 / sqrt(C), p->x[DEV]->num),
		dh = nums(p, (size_t)T * (size_t)C), dw = nums(p, (size_t)V * (size_t)C);
	int32_t *labels = indices(p, T, V), *ids = kf_alloc((size_t)T * 5, 4);
	uint32_t *off = kf_alloc((size_t)T + 1, 4), n = 0;
	float *q = kf_alloc((size_t)T * 5, 4), *weight = kf_alloc((size_t)T, 4);
	kf_loss loss[2];
	kf_status rc = KF_OK, r;
	kf_err err = { 0 };
	char name[80];

	for (int t = 0; t < T; t++) {
		off[t] = n;
		weight[t] = (float)(t % 3) / 2;
		for (int i = 0; i < t % 6; i++, n++) {
			ids[n] = (labels[t] + i * (V / 6)) % V;
			q[n] = 0.19f;
		}
		if (t % 7 == 6) labels[t] = -1;
	}
	off[T] = n;
	snprintf(name, sizeof name, "head_loss %d %d %d, %s, temperature %g%s", T, V, C, tail == KF_TAIL_REST ? "rest" : "renormalized", tau,
		cap > 0 ? ", capped" : "");
	EACH OPS->zero(X, dw.at[d], dw.n * (d == CPU ? 4 : kf_num_size(dw.type)));
	EACH {
		const kf_mat m = { .rows = V, .cols = C, .num = w.at[d] };
		const kf_loss_query lq = { .labels = labels, .off = off, .ids = ids, .q = q, .weight = weight, .lambda = 0.4, .temperature = tau,
			.kind = KF_LOSS_KL, .tail = tail, .scale = 1, .cap = cap };

		if ((r = OPS->head_loss(X, hidden.at[d], &m, T, &lq, dh.at[d], dw.at[d], &loss[d], &err)) != KF_OK) rc = r;
	}
	if (rc != KF_OK) {
		kf_parity_note(p, name, NAN, 0, err.text);
	} else {
		kf_parity_note(p, name, fmax(fabs(loss[1].loss - loss[0].loss) / fabs(loss[0].loss), fmax(fabs(loss[1].clm - loss[0].clm) /
			fabs(loss[0].clm), fabs(loss[1].fusion - loss[0].fusion) / fabs(loss[0].fusion))), 2e-5, NULL);
		kf_parity_note(p, name, fabs((double)(loss[1].rows - loss[0].rows)) + fabs((double)(loss[1].clm_rows - loss[0].clm_rows)) +
			fabs((double)(loss[1].fusion_rows - loss[0].fusion_rows)), 0, NULL);
	}
	same(p, name, "dhidden", &dh, 5e-5, 0.02, rc, &err);
	same(p, name, "dw", &dw, 5e-5, 0.02, rc, &err);
	both *const all[] = { &hidden, &w, &dh, &dw };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) drop(p, all[i]);
	kf_free(labels);
	kf_free(ids);
	kf_free(off);
	kf_free(q);
	kf_free(weight);
}

void kf_parity_ops(kf_parity *p)
{
	static const attention_case CASES[] = {
		{ "attention 4 heads of 64", 4, 4, 64, 64, 0, 0, false },
		{ "attention 4 heads of 64 in 2 groups, window 5", 4, 2, 64, 32, 5, 0, false },
		{ "attention 2 heads of 128 with a key each", 2, 1, 128, 128, 0, 0, false },
		{ "attention 2 heads of 256, soft cap", 2, 1, 256, 256, 0, 20, false },
		{ "attention 3 heads of 24, slopes", 3, 3, 24, 0, 0, 0, true },
		{ "attention 4 heads of 10 in 2 groups", 4, 2, 10, 4, 0, 0, false },
	};
	const int T = p->rows;

	linear(p, T, 48, 40);
	linear(p, T, 33, 7);
	linear(p, 1, 64, 64);
	embedding(p, T, 50, 24);
	norms(p, T, 64);
	norms(p, T, 37);
	for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
		for (int empty = 0; empty < 2; empty++) attention(p, &CASES[i], T, empty);
		attention_after(p, &CASES[i], T);
	}
	activations(p, (size_t)T * 37);
	experts(p, T, 8, 2, 24);
	keep_rows(p, T, 24);
	optimizer(p, 5000);
	head_score(p, T, 100, 24, 0);
	head_score(p, T, 8192 + 77, 16, 30);
	head_loss(p, T, 100, 24, KF_TAIL_REST, 1, 0);
	head_loss(p, T, 8192 + 77, 16, KF_TAIL_REST, 2, 30);
	head_loss(p, T, 100, 24, KF_TAIL_RENORMALIZE, 2, 0);
	if (T < 1000) return;
	/* what a device is for */
	linear(p, T, 576, 1536);
	norms(p, T, 4096);
	head_score(p, 4096 + 100, 49152, 64, 0);
	head_loss(p, 4096 + 100, 49152, 64, KF_TAIL_REST, 1, 0);
}
