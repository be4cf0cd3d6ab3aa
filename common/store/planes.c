#include "common/store/planes.h"

#include <stdlib.h>
#define ZSTD_STATIC_LINKING_ONLY /* for ZSTD_c_literalCompressionMode; where it is not known, fast blocks are larger */
#include <zstd.h>
#include <zstd_errors.h>

#include "common/store/store.h"

enum { METHOD_RAW, METHOD_ZSTD };

struct kf_packer {
	ZSTD_CCtx *ctx;
	int level;
};

struct kf_unpacker {
	ZSTD_DCtx *ctx;
};

kf_packer *kf_packer_new(int level)
{
	kf_packer *p = kf_zalloc(1, sizeof *p);

	if (!p) return NULL;
	p->level = level;
	if (!(p->ctx = ZSTD_createCCtx())) {
		kf_free(p);
		return NULL;
	}
	/* our headers hold the size, our checksum covers the block */
	ZSTD_CCtx_setParameter(p->ctx, ZSTD_c_compressionLevel, level == KF_PACK_FAST ? 1 : level);
	ZSTD_CCtx_setParameter(p->ctx, ZSTD_c_contentSizeFlag, 0);
	ZSTD_CCtx_setParameter(p->ctx, ZSTD_c_checksumFlag, 0);
	return p;
}

void kf_packer_free(kf_packer *p)
{
	if (!p) return;
	ZSTD_freeCCtx(p->ctx);
	kf_free(p);
}

kf_unpacker *kf_unpacker_new(void)
{
	kf_unpacker *u = kf_zalloc(1, sizeof *u);

	if (!u) return NULL;
	if (!(u->ctx = ZSTD_createDCtx())) {
		kf_free(u);
		return NULL;
	}
	return u;
}

void kf_unpacker_free(kf_unpacker *u)
{
	if (!u) return;
	ZSTD_freeDCtx(u->ctx);
	kf_free(u);
}

kf_status kf_planes_pack(kf_packer *p, const kf_buf *planes, int n, kf_buf *out, kf_err *err)
{
	kf_buf body = { 0 };
	uint64_t raw = 0;
	kf_status rc = KF_OK;

	for (int i = 0; i < n; i++) raw += planes[i].len;
	if (raw > KF_PLANES_RAW_MAX)
		return kf_fail(err, KF_EUNSUPPORTED, "a document is too large: with what is kept of it a block would have %llu MB, and may have %llu. Cut "
			"documents shorter (kf-prepare --doc-bytes)", (unsigned long long)(raw >> 20), (unsigned long long)(KF_PLANES_RAW_MAX >> 20));
	for (int i = 0; i < n && rc == KF_OK; i++) {
		const kf_buf *b = &planes[i];
		size_t bound = ZSTD_compressBound(b->len), got = 0;
		unsigned method = METHOD_RAW;

		if ((rc = kf_buf_check(b, err)) != KF_OK) break;
		if (p->level == KF_PACK_FAST && i < 2) { /* steps so wide that nothing repeated is found */
			ZSTD_CCtx_setParameter(p->ctx, ZSTD_c_targetLength, i ? 1000 : 0);
			ZSTD_CCtx_setParameter(p->ctx, ZSTD_c_literalCompressionMode, i ? ZSTD_ps_enable : ZSTD_ps_auto);
		}
		if (b->len > 0) {
			if (!kf_buf_reserve(&body, bound)) break;
			got = ZSTD_compress2(p->ctx, body.data + body.len, bound, b->data, b->len);
			if (ZSTD_isError(got)) {
				rc = kf_fail(err, KF_ENOMEM, "cannot compress a block: %s", ZSTD_getErrorName(got));
				break;
			}
			if (got < b->len) method = METHOD_ZSTD;
		}
		if (method == METHOD_RAW) {
			got = b->len;
			if (got && kf_buf_reserve(&body, got)) memcpy(body.data + body.len, b->data, got);
		}
		if (!body.failed) body.len += got;
		kf_buf_varint(out, b->len);
		kf_buf_varint(out, (uint64_t)got << 2 | method);
	}
	if (rc == KF_OK) rc = kf_buf_check(&body, err);
	if (rc == KF_OK) {
		kf_buf_put(out, body.data, body.len);
		rc = kf_buf_check(out, err);
	}
	kf_buf_release(&body);
	return rc;
}

struct plane_head { uint64_t raw, packed; unsigned method; };

static kf_status read_heads(kf_cur *in, struct plane_head *h, int n, kf_err *err)
{
	uint64_t raw = 0, packed = 0;

	for (int i = 0; i < n; i++) {
		h[i].raw = kf_cur_varint(in);
		h[i].packed = kf_cur_varint(in);
		h[i].method = h[i].packed & 3;
		h[i].packed >>= 2;
		/* each is bounded first, so that the sums cannot wrap */
		if (in->bad || h[i].raw > KF_PLANES_RAW_MAX || h[i].packed > kf_cur_left(in)) goto bad;
		raw += h[i].raw;
		packed += h[i].packed;
	}
	if (raw > KF_PLANES_RAW_MAX || packed != kf_cur_left(in)) goto bad;
	return KF_OK;
bad:
	return kf_fail(err, KF_EDATA, "the sizes of its planes do not fit");
}

/* Plane number i, packed at p, into b. */
static kf_status unpack_one(kf_unpacker *u, const uint8_t *p, const struct plane_head *h, kf_buf *b, int i, kf_err *err)
{
	size_t raw = (size_t)h->raw, got;

	kf_buf_clear(b);
	/* room past the end lets decoders read whole words */
	if (!kf_buf_reserve(b, raw + 64)) return kf_buf_check(b, err);
	if (h->method == METHOD_RAW && h->packed == raw) {
		if (raw) memcpy(b->data, p, raw);
	} else if (h->method == METHOD_ZSTD && raw) {
		got = ZSTD_decompressDCtx(u->ctx, b->data, raw, p, (size_t)h->packed);
		if (ZSTD_getErrorCode(got) == ZSTD_error_memory_allocation)
			return kf_fail(err, KF_ENOMEM, "no memory to decompress plane %d", i);
		if (ZSTD_isError(got) || got != raw)
			return kf_fail(err, KF_EDATA, "plane %d does not decompress%s%s", i, ZSTD_isError(got) ? ": " : "",
				ZSTD_isError(got) ? ZSTD_getErrorName(got) : "");
	} else {
		return kf_fail(err, KF_EDATA, "plane %d is packed in an unknown way", i);
	}
	memset(b->data + raw, 0, 64);
	b->len = raw;
	return KF_OK;
}

kf_status kf_planes_unpack_some(kf_unpacker *u, kf_cur *in, kf_buf *planes, int n, uint64_t mask, kf_err *err)
{
	struct plane_head h[KF_MAX_PLANES];
	kf_status rc = read_heads(in, h, n, err);

	for (int i = 0; i < n && rc == KF_OK; i++) {
		const uint8_t *p = kf_cur_bytes(in, (size_t)h[i].packed);

		if (mask >> i & 1) rc = unpack_one(u, p, &h[i], &planes[i], i, err);
		else kf_buf_clear(&planes[i]);
	}
	return rc;
}

kf_status kf_planes_unpack(kf_unpacker *u, kf_cur *in, kf_buf *planes, int n, kf_err *err)
{
	return kf_planes_unpack_some(u, in, planes, n, UINT64_MAX, err);
}

kf_status kf_planes_first(kf_unpacker *u, kf_cur *in, kf_buf *plane, int n, kf_err *err)
{
	struct plane_head h[KF_MAX_PLANES];
	kf_status rc = read_heads(in, h, n, err);

	return rc == KF_OK ? unpack_one(u, kf_cur_bytes(in, (size_t)h[0].packed), h, plane, 0, err) : rc;
}

kf_status kf_planes_sizes(kf_cur *in, uint64_t *size, int n, kf_err *err)
{
	struct plane_head h[KF_MAX_PLANES];
	kf_status rc = read_heads(in, h, n, err);

	for (int i = 0; i < n && rc == KF_OK; i++) size[i] += h[i].packed;
	return rc;
}

/* ---- whole numbers ---- */

void kf_split_put(kf_buf *b, const void *v, size_t n)
{
	const uint8_t *p = v;
	uint8_t *out;

	if (!kf_buf_reserve(b, n * 4)) return;
	out = b->data + b->len;
	for (int k = 0; k < 4; k++)
		for (size_t i = 0; i < n; i++) out[k * n + i] = p[i * 4 + k];
	b->len += n * 4;
}

bool kf_split_get(const kf_buf *b, void *v, size_t n)
{
	const uint8_t *p = b->data;
	uint32_t *out = v;

	if (b->len != n * 4) return false;
	for (size_t i = 0; i < n; i++)
		out[i] = p[i] | (uint32_t)p[n + i] << 8 | (uint32_t)p[2 * n + i] << 16 | (uint32_t)p[3 * n + i] << 24;
	return true;
}

/* ---- heads ---- */

/* A head: varints document - previous - 1, (its bytes of text), n, more, the domain's number, a flag saying how its id
 * and piece are told:
 *   0  the same id as before, the next piece      1  id given, piece 0      2  id and piece given
 * The first document's difference is to -1. Of a corpus, `more` turns follow: bytes * KF_ROLES + role each. */
static uint32_t domain_number(kf_heads_enc *e, const char *domain)
{
	const char *p = (const char *)e->domains.data;
	size_t n = strlen(domain) + 1, at = 0;
	uint32_t i = 0;

	while (at < e->domains.len) {
		size_t m = strlen(p + at) + 1;

		if (m == n && memcmp(p + at, domain, n) == 0) return i;
		at += m;
		i++;
	}
	kf_buf_put(&e->domains, domain, n);
	e->n_domains = i + 1;
	return i;
}

void kf_heads_put(kf_heads_enc *e, const kf_dochead *h, uint32_t n, uint32_t more, const kf_turn *turns)
{
	uint64_t before = e->docs ? e->last_doc + 1 : 0;
	bool same = e->docs && e->last_known && strcmp(h->id, e->last_id) == 0;
	unsigned how = same && h->piece == e->last_piece + 1 ? 0 : h->piece == 0 ? 1 : 2;

	kf_buf_varint(&e->heads, h->doc - before);
	kf_buf_varint(&e->heads, h->bytes);
	kf_buf_varint(&e->heads, n);
	kf_buf_varint(&e->heads, more);
	kf_buf_varint(&e->heads, (uint64_t)domain_number(e, h->domain) * 3 + how);
	if (how) kf_buf_str(&e->heads, h->id);
	if (how == 2) kf_buf_varint(&e->heads, h->piece);
	for (uint32_t i = 0; turns && i < more; i++) kf_buf_varint(&e->heads, (uint64_t)turns[i].bytes * KF_ROLES + turns[i].role);
	e->docs++;
	e->last_doc = h->doc;
	e->last_piece = h->piece;
	e->last_known = strlen(h->id) < sizeof e->last_id; /* one that does not fit is never "the same" */
	if (e->last_known) strcpy(e->last_id, h->id);
}

void kf_heads_finish(kf_heads_enc *e, kf_buf *out)
{
	if (e->heads.failed || e->domains.failed) out->failed = true;
	kf_buf_varint(out, e->n_domains);
	kf_buf_put(out, e->domains.data, e->domains.len);
	kf_buf_put(out, e->heads.data, e->heads.len);
	kf_buf_clear(&e->domains);
	kf_buf_clear(&e->heads);
	e->docs = e->n_domains = 0;
}

void kf_heads_release(kf_heads_enc *e)
{
	kf_buf_release(&e->domains);
	kf_buf_release(&e->heads);
}

/* A conversation's turns, which make up its bytes: KF_EDATA when they do not, KF_ENOMEM; neither with a message. */
static kf_status get_turns(kf_cur *c, uint64_t n, uint64_t bytes, kf_arena *arena, const kf_turn **out)
{
	kf_turn *turns;

	if (n > kf_cur_left(c)) return KF_EDATA;
	if (!(turns = KF_ARENA_NEW(arena, kf_turn, n))) return KF_ENOMEM;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t v = kf_cur_varint(c);

		if (c->bad || v / KF_ROLES > bytes) return KF_EDATA;
		turns[i] = (kf_turn){ .bytes = (uint32_t)(v / KF_ROLES), .role = (uint8_t)(v % KF_ROLES) };
		bytes -= turns[i].bytes;
	}
	*out = turns;
	return bytes ? KF_EDATA : KF_OK;
}

kf_status kf_heads_get(const kf_buf *plane, uint32_t docs, bool turns, kf_arena *arena, kf_head_n **out, kf_err *err)
{
	kf_cur c = kf_cur_of(plane->data, plane->len);
	uint64_t n_domains = kf_cur_varint(&c), last = 0, total = 0;
	const char **domains, *id = NULL;
	kf_head_n *h;
	kf_status rc;

	/* a domain takes a byte, a document five */
	if (c.bad || n_domains > kf_cur_left(&c) || docs > kf_cur_left(&c) / 5 || docs > KF_BLOCK_DOCS) goto bad;
	domains = KF_ARENA_NEW(arena, const char *, n_domains + 1);
	h = KF_ARENA_NEW(arena, kf_head_n, (size_t)docs + 1);
	if (!domains || !h) goto no_memory;
	for (uint64_t i = 0; i < n_domains; i++) {
		const uint8_t *end = kf_cur_left(&c) ? memchr(c.p, 0, kf_cur_left(&c)) : NULL;

		if (!end) goto bad;
		domains[i] = kf_arena_strdup(arena, (const char *)c.p, (size_t)(end - c.p));
		if (!domains[i]) goto no_memory;
		kf_cur_bytes(&c, (size_t)(end - c.p) + 1);
	}
	for (uint32_t i = 0; i < docs; i++) {
		uint64_t gap = kf_cur_varint(&c), bytes = kf_cur_varint(&c), n = kf_cur_varint(&c), more = kf_cur_varint(&c);
		uint64_t how = kf_cur_varint(&c), piece = 0;

		if (c.bad || gap >= KF_MAX_DOC || last + gap >= KF_MAX_DOC || bytes > UINT32_MAX || n > KF_BLOCK_TOKENS ||
		    more > UINT32_MAX) goto bad;
		if ((total += n) > KF_BLOCK_TOKENS || how / 3 >= n_domains) goto bad;
		h[i].head.doc = last + gap;
		last = h[i].head.doc + 1;
		h[i].head.bytes = (uint32_t)bytes;
		h[i].head.domain = domains[how / 3];
		h[i].n = (uint32_t)n;
		h[i].more = (uint32_t)more;
		h[i].turns = NULL;
		if (how % 3) {
			size_t len;
			const char *s = kf_cur_str(&c, &len);

			if (c.bad) goto bad;
			if (memchr(s, 0, len)) goto bad;
			if (!(id = kf_arena_strdup(arena, s, len))) goto no_memory;
			if (how % 3 == 2) piece = kf_cur_varint(&c);
		} else {
			if (i == 0) goto bad;
			piece = (uint64_t)h[i - 1].head.piece + 1;
		}
		if (c.bad || piece > UINT32_MAX) goto bad;
		h[i].head.id = id;
		h[i].head.piece = (uint32_t)piece;
		if (turns && more && (rc = get_turns(&c, more, bytes, arena, &h[i].turns)) != KF_OK) {
			if (rc == KF_ENOMEM) goto no_memory;
			goto bad;
		}
	}
	if (kf_cur_left(&c)) goto bad;
	*out = h;
	return KF_OK;
no_memory:
	return kf_fail(err, KF_ENOMEM, "no memory for the heads of %u documents", docs);
bad:
	return kf_fail(err, KF_EDATA, "the heads of its documents are damaged");
}

/* ---- context ---- */

void kf_context_put(kf_buf *plane, const uint8_t *context, const uint32_t *n, uint32_t docs)
{
	for (uint32_t d = 0; d < docs; context += n[d++] + 1) {
		size_t positions = (size_t)n[d] + 1;
		uint8_t now = 1;

		for (size_t p = 0, from = 0; p <= positions; p++) {
			if (p < positions && context[p] == now) continue;
			kf_buf_varint(plane, p - from);
			from = p;
			now = !now;
		}
	}
}

kf_status kf_context_get(const kf_buf *plane, const uint32_t *n, uint32_t docs, size_t positions, kf_arena *arena,
	uint8_t **out, kf_err *err)
{
	kf_cur c = kf_cur_of(plane->data, plane->len);
	uint8_t *at = kf_arena_alloc(arena, positions, 1);

	if (!(*out = at)) return kf_fail(err, KF_ENOMEM, "no memory for %zu positions", positions);
	for (uint32_t d = 0; d < docs; d++) {
		uint64_t left = (uint64_t)n[d] + 1, run;

		for (uint8_t now = 1; left; now = !now) {
			run = kf_cur_varint(&c);
			/* only a first run may be empty */
			if (c.bad || run > left || (!run && !(now && left == (uint64_t)n[d] + 1))) goto bad;
			memset(at, now, (size_t)run);
			at += run;
			left -= run;
		}
	}
	if (!kf_cur_left(&c)) return KF_OK;
bad:
	return kf_fail(err, KF_EDATA, "it does not tell which of its positions are context");
}

uint64_t kf_head_hash(const kf_dochead *h, uint64_t rest)
{
	uint64_t v[6] = { h->doc, h->piece, h->bytes, kf_hash64(h->id, strlen(h->id)), kf_hash64(h->domain, strlen(h->domain)), rest };

	return kf_hash64(v, sizeof v);
}

kf_status kf_head_copy(kf_dochead *out, const kf_dochead *h, kf_arena *arena, kf_err *err)
{
	*out = *h;
	out->id = kf_arena_strdup(arena, h->id, strlen(h->id));
	out->domain = kf_arena_strdup(arena, h->domain, strlen(h->domain));
	return out->id && out->domain ? KF_OK : kf_fail(err, KF_ENOMEM, "no memory for a document's head");
}
