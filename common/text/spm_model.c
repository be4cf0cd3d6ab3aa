/* SentencePiece's ModelProto, read and written by hand (protocol buffers' wire format; field
 * numbers from the published sentencepiece_model.proto). What comes from outside is read into the tokenizer's
 * fields and checked; the library only ever sees what is written here from those. */
#include <stdio.h>
#include <stdlib.h>

#include "common/text/internal.h"

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };
enum { MODEL_UNIGRAM = 1, MODEL_BPE = 2 };

/* ---- writing -------------------------------------------------------------------------- */

static void put_tag(kf_buf *b, unsigned field, unsigned wire) { kf_buf_varint(b, field << 3 | wire); }

static void put_int(kf_buf *b, unsigned field, int64_t v)
{
	put_tag(b, field, WIRE_VARINT);
	kf_buf_varint(b, (uint64_t)v);
}

static void put_bytes(kf_buf *b, unsigned field, const void *p, size_t n)
{
	put_tag(b, field, WIRE_BYTES);
	kf_buf_varint(b, n);
	kf_buf_put(b, p, n);
}

static void put_str(kf_buf *b, unsigned field, const char *s) { put_bytes(b, field, s, strlen(s)); }

kf_status kf_spm_serialise(const kf_tokenizer *t, bool plain, kf_buf *out, kf_err *err)
{
	const kf_sp *s = &t->sp;
	kf_buf part = { 0 };

	kf_buf_clear(out);
	for (int32_t i = 0; i < t->n; i++) {
		kf_buf_clear(&part);
		put_str(&part, 1, kf_tokenizer_piece(t, i));
		put_tag(&part, 2, WIRE_FIXED32);
		kf_buf_f32(&part, s->score[i]);
		/* what is cut out before is nothing for the model to find */
		int32_t type = t->type[i] == KF_TT_USER && t->flags[i] & KF_AT_RAW ? KF_TT_CONTROL : t->type[i];
		if (type != KF_TT_NORMAL)
			put_int(&part, 3, type);
		put_bytes(out, 1, part.data, part.len);
	}
	/* TrainerSpec */
	kf_buf_clear(&part);
	put_int(&part, 3, s->bpe ? MODEL_BPE : MODEL_UNIGRAM);
	put_int(&part, 4, t->n);
	put_int(&part, 35, s->byte_fallback);
	put_int(&part, 40, t->unk);
	put_int(&part, 41, t->bos);
	put_int(&part, 42, t->eos);
	put_int(&part, 43, t->pad);
	put_str(&part, 45, kf_tokenizer_piece(t, t->unk));
	if (t->bos >= 0)
		put_str(&part, 46, kf_tokenizer_piece(t, t->bos));
	if (t->eos >= 0)
		put_str(&part, 47, kf_tokenizer_piece(t, t->eos));
	if (t->pad >= 0)
		put_str(&part, 48, kf_tokenizer_piece(t, t->pad));
	put_bytes(out, 2, part.data, part.len);
	/* NormalizerSpec */
	kf_buf_clear(&part);
	bool mapped = !plain && s->n_charsmap;
	put_str(&part, 1, mapped ? "user_defined" : "identity");
	put_bytes(&part, 2, s->charsmap, mapped ? s->n_charsmap : 0);
	put_int(&part, 3, !plain && s->dummy_prefix);
	put_int(&part, 4, !plain && s->remove_extra_spaces);
	put_int(&part, 5, 1);
	put_bytes(out, 3, part.data, part.len);
	bool failed = part.failed;
	kf_buf_release(&part);
	if (failed)
		return kf_fail(err, KF_ENOMEM, "no memory for a SentencePiece model of %d pieces", (int)t->n);
	return kf_buf_check(out, err);
}

/* ---- checking ------------------------------------------------------------------------------ */

typedef struct { const char *s; size_t n; int32_t id; } named;

static int by_name(const void *pa, const void *pb)
{
	const named *a = pa, *b = pb;
	int c = strcmp(a->s, b->s);
	return c ? c : a->id < b->id ? -1 : a->id > b->id;
}

/* The library wants distinct, non-empty pieces, one of them unknown, and byte pieces all or none. */
static kf_status check(kf_tokenizer *t, kf_err *err)
{
	kf_sp *s = &t->sp;
	kf_status rc = KF_OK;
	int32_t n_unk = 0, n_byte = 0;
	bool byte[256] = { false };
	named *v = kf_alloc((size_t)t->n, sizeof *v);

	if (!v)
		return kf_fail(err, KF_ENOMEM, "no memory for a SentencePiece model of %d pieces", (int)t->n);
	for (int32_t i = 0; i < t->n; i++) {
		const char *p = kf_tokenizer_piece(t, i);
		size_t n = strlen(p);
		unsigned c = 0;
		int end = 0;
		v[i] = (named){ p, n, i };
		if (n == 0) {
			rc = kf_fail(err, KF_EDATA, "piece %d of the SentencePiece model is empty", (int)i);
			goto out;
		}
		if (!(s->score[i] > -1e30f && s->score[i] < 1e30f)) {
			rc = kf_fail(err, KF_EDATA, "piece %d (\"%.60s\") of the SentencePiece model has no finite score", (int)i, p);
			goto out;
		}
		if (t->type[i] == KF_TT_UNKNOWN) {
			n_unk++;
			t->unk = i;
		} else if (t->type[i] == KF_TT_BYTE) {
			/* The library spells them so, with capitals. */
			if (sscanf(p, "<0x%2X>%n", &c, &end) != 1 || end != 6 || n != 6 || c > 255 || byte[c]
				|| strpbrk(p + 3, "abcdef")) {
				rc = kf_fail(err, KF_EDATA, "piece %d (\"%.60s\") of the SentencePiece model is no byte, or given twice",
					(int)i, p);
				goto out;
			}
			byte[c] = true;
			n_byte++;
		} else if (kf_utf8_valid((const uint8_t *)p, n) != n) {
			rc = kf_fail(err, KF_EDATA, "piece %d of the SentencePiece model is not valid UTF-8", (int)i);
			goto out;
		}
	}
	if (n_unk != 1) {
		rc = kf_fail(err, KF_EDATA, "the SentencePiece model has %d unknown pieces; it must have one", (int)n_unk);
		goto out;
	}
	if (n_byte != 0 && n_byte != 256) {
		rc = kf_fail(err, KF_EDATA, "the SentencePiece model has %d byte pieces; it must have 256 or none", (int)n_byte);
		goto out;
	}
	s->byte_fallback = n_byte == 256;
	qsort(v, (size_t)t->n, sizeof *v, by_name);
	for (int32_t i = 1; i < t->n; i++)
		if (strcmp(v[i].s, v[i - 1].s) == 0) {
			rc = kf_fail(err, KF_EDATA, "pieces %d and %d of the SentencePiece model are the same, \"%.60s\"",
				(int)v[i - 1].id, (int)v[i].id, v[i].s);
			goto out;
		}
out:
	kf_free(v);
	return rc;
}

/* A character map is a double-array trie and the strings it leads to. The library follows the trie without looking
 * where it goes, so no step may lead outside. Layout of a unit: Yata's darts-clone (bit 8 has a leaf, bits 10 and up
 * the offset, shifted by 8 more when bit 9 is set; a leaf's low 31 bits are its value). */
static kf_status check_charsmap(const uint8_t *p, size_t n, kf_err *err)
{
	uint32_t size = 0;
	if (n >= 4)
		memcpy(&size, p, 4);
	if (n < 4 || size > n - 4 || size % 1024 != 0 || size == 0 || p[n - 1] != 0)
		return kf_fail(err, KF_EDATA, "the SentencePiece model's character map is damaged: its trie does not fit into it");
	uint32_t units = size / 4;
	size_t text = n - 4 - size;
	for (uint32_t i = 0; i < units; i++) {
		uint32_t u, leaf;
		memcpy(&u, p + 4 + (size_t)i * 4, 4);
		if (u >> 31) /* a leaf: nothing follows */
			continue;
		uint32_t to = i ^ ((u >> 10) << ((u & (1u << 9)) >> 6));
		if ((u >> 10 || u & 0x100) && to >= units)
			return kf_fail(err, KF_EDATA, "the SentencePiece model's character map is damaged: unit %u of its trie leads outside", i);
		if (!(u & 0x100))
			continue;
		memcpy(&leaf, p + 4 + (size_t)to * 4, 4);
		if ((leaf & 0x7fffffff) >= text)
			return kf_fail(err, KF_EDATA,
				"the SentencePiece model's character map is damaged: unit %u of its trie names a text outside", i);
	}
	return KF_OK;
}

kf_status kf_sp_finish(kf_tokenizer *t, kf_err *err)
{
	kf_status rc = check(t, err);
	if (rc == KF_OK && t->sp.n_charsmap)
		rc = check_charsmap(t->sp.charsmap, t->sp.n_charsmap, err);
	if (rc == KF_OK)
		rc = kf_vocab_index(t, err);
	return rc ? rc : kf_sp_init(t, err);
}

kf_status kf_sp_build(kf_tokenizer *t, int32_t n, const char *const *piece, const int32_t *type, const uint8_t *flags,
	const float *score, kf_err *err)
{
	kf_status rc = kf_vocab_pieces(t, n, piece, type, err);

	if (rc != KF_OK)
		return rc;
	if (!(t->sp.score = kf_alloc((size_t)n, sizeof *score)))
		return kf_fail(err, KF_ENOMEM, "no memory for a SentencePiece model of %d pieces", (int)n);
	memcpy(t->sp.score, score, (size_t)n * sizeof *score);
	if (flags)
		memcpy(t->flags, flags, (size_t)n);
	return kf_sp_finish(t, err);
}

/* ---- from a GGUF vocabulary -------------------------------------------------------------------- */

kf_status kf_sp_from_spec(kf_tokenizer *t, const kf_vocab_spec *spec, kf_err *err)
{
	kf_sp *s = &t->sp;
	kf_status rc = KF_OK;
	kf_arena arena;

	if (!spec->scores)
		return kf_fail(err, KF_EDATA, "the SentencePiece vocabulary has no scores (tokenizer.ggml.scores)");
	if (spec->n < 1 || spec->n > KF_VOCAB_MAX)
		return kf_fail(err, KF_EDATA, "a vocabulary of %d tokens is not within 1 to %d", (int)spec->n, KF_VOCAB_MAX);
	kf_arena_init(&arena);
	const char **piece = KF_ARENA_NEW(&arena, const char *, (size_t)spec->n);
	int32_t *type = KF_ARENA_NEW(&arena, int32_t, (size_t)spec->n);
	if (!piece || !type)
		goto nomem;
	int32_t unk = spec->unk;
	for (int32_t i = 0; i < spec->n; i++) {
		const char *p = spec->pieces[i];
		piece[i] = p;
		type[i] = spec->types ? spec->types[i] : KF_TT_NORMAL;
		if (unk < 0 && (type[i] == KF_TT_UNKNOWN || strcmp(p, "<unk>") == 0))
			unk = i;
		if (type[i] != KF_TT_USER || !strchr(p, ' '))
			continue;
		/* GGUF writes user-defined pieces with plain spaces; the model has ▁ there. */
		char *q = KF_ARENA_NEW(&arena, char, strlen(p) * 3 + 1);
		if (!q)
			goto nomem;
		piece[i] = q;
		for (; *p; p++) {
			if (*p == ' ') {
				memcpy(q, "\xe2\x96\x81", 3);
				q += 3;
			} else {
				*q++ = *p;
			}
		}
		*q = 0;
	}
	if (unk < 0 || unk >= spec->n) {
		rc = kf_fail(err, KF_EDATA, "the SentencePiece vocabulary names no unknown token (tokenizer.ggml.unknown_token_id)");
		goto out;
	}
	for (int32_t i = 0; i < spec->n; i++) /* some files call it a control token, some have several */
		if (type[i] == KF_TT_UNKNOWN)
			type[i] = KF_TT_CONTROL;
	type[unk] = KF_TT_UNKNOWN;
	s->bpe = true;
	s->dummy_prefix = spec->add_space_prefix;
	s->remove_extra_spaces = spec->remove_extra_whitespaces;
	rc = kf_sp_build(t, spec->n, piece, type, NULL, spec->scores, err);
	goto out;
nomem:
	rc = kf_fail(err, KF_ENOMEM, "no memory for a SentencePiece model of %d pieces", (int)spec->n);
out:
	kf_arena_release(&arena);
	return rc;
}

/* ---- from a model file ---------------------------------------------------------------------------- */

typedef struct { unsigned field, wire; uint64_t v; const uint8_t *p; size_t n; } field;

/* The next field of a message; false at its end or where it is damaged (then c->bad). */
static bool next_field(kf_cur *c, field *f)
{
	if (!kf_cur_left(c) || c->bad)
		return false;
	uint64_t tag = kf_cur_varint(c);
	f->field = (unsigned)(tag >> 3);
	f->wire = tag & 7;
	f->v = 0;
	f->p = NULL;
	f->n = 0;
	switch (f->wire) {
	case WIRE_VARINT:
		f->v = kf_cur_varint(c);
		break;
	case WIRE_FIXED64:
		f->v = kf_cur_u64(c);
		break;
	case WIRE_FIXED32:
		f->v = kf_cur_u32(c);
		break;
	case WIRE_BYTES:
		f->v = kf_cur_varint(c);
		if (f->v > kf_cur_left(c)) {
			c->bad = true;
			break;
		}
		f->n = (size_t)f->v;
		f->p = kf_cur_bytes(c, f->n);
		break;
	default:
		c->bad = true;
	}
	return !c->bad;
}

static const char *own_string(kf_arena *a, const field *f)
{
	return f->wire == WIRE_BYTES && !memchr(f->p, 0, f->n) ? kf_arena_strdup(a, (const char *)f->p, f->n) : NULL;
}

kf_status kf_sp_read_proto(kf_tokenizer *t, const uint8_t *proto, size_t size, kf_arena *arena, kf_sp_pieces *out,
	kf_err *err)
{
	kf_sp *s = &t->sp;
	kf_cur c = kf_cur_of(proto, size), m;
	field f, g;
	int32_t n = 0, k = 0, model = MODEL_UNIGRAM;
	const char *special[4] = { NULL, "<s>", "</s>", "<pad>" };

	while (next_field(&c, &f))
		if (f.field == 1 && f.wire == WIRE_BYTES && ++n > KF_VOCAB_MAX)
			break;
	if (c.bad || n < 1 || n > KF_VOCAB_MAX) {
		return kf_fail(err, KF_EDATA, c.bad ? "The SentencePiece model is damaged or cut short."
			: "The SentencePiece model has no pieces, or too many.");
	}
	const char **piece = KF_ARENA_NEW(arena, const char *, (size_t)n);
	int32_t *type = KF_ARENA_NEW(arena, int32_t, (size_t)n);
	float *score = KF_ARENA_NEW(arena, float, (size_t)n);
	if (!piece || !type || !score) {
		return kf_fail(err, KF_ENOMEM, "no memory for a SentencePiece model of %d pieces", (int)n);
	}
	s->dummy_prefix = s->remove_extra_spaces = true;
	bool escape = true, suffix = false;
	c = kf_cur_of(proto, size);
	while (next_field(&c, &f)) {
		if (f.wire != WIRE_BYTES || f.field < 1 || f.field > 3)
			continue;
		m = kf_cur_of(f.p, f.n);
		if (f.field == 1) {
			piece[k] = NULL;
			type[k] = KF_TT_NORMAL;
			score[k] = 0;
			while (next_field(&m, &g)) {
				uint32_t bits = (uint32_t)g.v;
				if (g.field == 1)
					piece[k] = own_string(arena, &g);
				else if (g.field == 2 && g.wire == WIRE_FIXED32)
					memcpy(&score[k], &bits, 4);
				else if (g.field == 3 && g.wire == WIRE_VARINT)
					type[k] = g.v <= 6 ? (int32_t)g.v : 0;
			}
			if (m.bad || !piece[k] || type[k] == 0) {
				return kf_fail(err, KF_EDATA, "piece %d of the SentencePiece model is damaged", (int)k);
				}
			k++;
		}
		while (f.field == 2 && next_field(&m, &g)) {
			if (g.field == 3)
				model = g.v <= 4 ? (int32_t)g.v : 0;
			else if (g.field == 24)
				suffix = g.v != 0;
			else if (g.field >= 46 && g.field <= 48)
				special[g.field - 45] = own_string(arena, &g);
		}
		while (f.field == 3 && next_field(&m, &g)) {
			if (g.field == 2 && g.wire == WIRE_BYTES) {
				kf_free(s->charsmap);
				if (!(s->charsmap = kf_alloc(g.n, 1))) {
					return kf_fail(err, KF_ENOMEM, "no memory for a SentencePiece model's character map");
						}
				memcpy(s->charsmap, g.p, g.n);
				s->n_charsmap = g.n;
			} else if (g.field == 3) {
				s->dummy_prefix = g.v != 0;
			} else if (g.field == 4) {
				s->remove_extra_spaces = g.v != 0;
			} else if (g.field == 5) {
				escape = g.v != 0;
			}
		}
		if (m.bad) {
			return kf_fail(err, KF_EDATA, "the SentencePiece model's %s settings are damaged", f.field == 2 ? "trainer" : "normaliser");
		}
	}
	if (model != MODEL_BPE && model != MODEL_UNIGRAM) {
		return kf_fail(err, KF_EUNSUPPORTED, "the SentencePiece model is of type %d; kfuse reads unigram (1) and BPE (2)", (int)model);
	}
	if (!escape || suffix) {
		return kf_fail(err, KF_EUNSUPPORTED, "the SentencePiece model %s, which kfuse does not do",
			suffix ? "takes white space as the end of words" : "leaves spaces as they are");
	}
	s->bpe = model == MODEL_BPE;
	for (int32_t i = 0; i < n; i++) {
		if (type[i] != KF_TT_CONTROL)
			continue;
		if (t->bos < 0 && special[1] && strcmp(piece[i], special[1]) == 0)
			t->bos = i;
		if (t->eos < 0 && special[2] && strcmp(piece[i], special[2]) == 0)
			t->eos = i;
		if (t->pad < 0 && special[3] && strcmp(piece[i], special[3]) == 0)
			t->pad = i;
	}
	*out = (kf_sp_pieces){ n, piece, type, score };
	return KF_OK;
}
