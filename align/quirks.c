/* FuseLLM's and FuseChat's alignment as their published code has it, row for row: --reference-quirks.
 *
 * The code works on whole rows: row i, where token i was read, has the logits that predict token i + 1.
 * Sequences hold what was read: a BOS where the set has one, the tokens, and for FuseLLM an EOS, which its
 * tokenising appends to every text. So the row of the text's token p - 1 is our position p, and the row of BOS
 * our position 0; without BOS position 0 has no row. FuseLLM's row of EOS predicts nothing and is left out,
 * and so is FuseChat's last row, which is a one-hot on the last token: its loss masks it.
 *
 * FuseLLM: partner and equality are looked at from the target's token only (a source token may serve
 * several); a byte-level source's first token counts as if it had a space marker where the target's has one.
 * Anything else is a one-hot on the token just read.
 *
 * FuseChat (the code of August 2024, align_type "default" with its mapping matrix; "hard" for --vocab-map
 * exact): strings are what decode() gives, so a Llama tokenizer's have no space and a string may be empty,
 * which every string ends with. No discount in warping, only in the map. One partner: accepted where either
 * string ends with the other; several: the first such. Anything else is a one-hot on the next token.
 * Candidates the target does not spell alike go through the map, and to the unknown token where it has
 * nothing. Gemma's space marker is taken for a byte-level one's.
 *
 * Both: the stored candidates that are kept are a softmax, nothing is left to a tail. No candidate: an empty
 * row, for which the code's collator puts the target's own distribution. */
#include "align/method.h"
#include "common/store/sparse.h"

#include <math.h>
#include <string.h>

/* One of the two sequences. */
typedef struct {
	align_seq seq;
	uint32_t before;   /* 1: a BOS comes first */
} rows;

static bool with_ends(const kf_logits_rec *r, int32_t bos, int32_t eos, rows *out, kf_arena *arena)
{
	uint32_t n = 0;
	int32_t *ids = KF_ARENA_NEW(arena, int32_t, (size_t)r->n + 2);
	uint32_t *at = KF_ARENA_NEW(arena, uint32_t, (size_t)r->n + 3);

	if (!ids || !at) return false;
	out->before = r->bos && bos >= 0;
	if (out->before) ids[n] = bos, at[n++] = 0;
	for (uint32_t i = 0; i < r->n; i++) ids[n] = r->tokens[i], at[n++] = r->start[i];
	if (eos >= 0) ids[n] = eos, at[n++] = r->start[r->n];
	at[n] = r->start[r->n];
	out->seq = (align_seq){ .ids = ids, .at = at, .n = n };
	return true;
}

/* ---- the maps ---- */

static bool is_gemma(const kf_tokenizer *t)
{
	return kf_tokenizer_kind(t) == KF_TOK_SENTENCEPIECE && !kf_tokenizer_dummy_prefix(t);
}

/* FuseLLM: of the same string (hard), or what the map has (soft), controls and all. */
static int32_t image_llm(kf_aligner *a, int32_t id, bool last)
{
	(void)last;
	return align_image(a, id);
}

/* The target's token of the same string after the space marker that the code believes in was swapped. */
static int32_t exact_chat(const kf_aligner *a, int32_t id)
{
	const char *piece = kf_tokenizer_piece(a->src, id);
	bool marked = piece && strstr(piece, align_marker(a->src));

	if (marked && is_gemma(a->tgt) && !is_gemma(a->src)) return -1;
	if (marked && is_gemma(a->src) && kf_tokenizer_kind(a->tgt) != KF_TOK_SENTENCEPIECE) return -1;
	return a->exact[id];
}

static int32_t image_chat(kf_aligner *a, int32_t id, bool last)
{
	int32_t to = exact_chat(a, id);

	(void)last;
	if (to >= 0 || a->map == KF_ALIGN_EXACT) return to;
	if (id == a->src_eos && a->tgt_eos >= 0) return a->tgt_eos;
	to = image_llm(a, id, false);
	return to >= 0 ? to : a->unknown;
}

/* ---- which row of the source ---- */

static int32_t row_llm(kf_aligner *a, const align_seq *s, int32_t token, align_partner p, bool first)
{
	const char *piece = kf_tokenizer_piece(a->tgt, token), *other, *marker = align_marker(a->tgt);
	size_t m = strlen(marker);
	int32_t id;
	char text[ALIGN_WORD_MAX];

	if (p.first != p.last) return -1;
	id = s->ids[p.first];
	if (a->exact[id] == token || (a->map != KF_ALIGN_EXACT && image_llm(a, id, false) == token))
		return (int32_t)p.first;
	if (!first || kf_tokenizer_kind(a->src) != KF_TOK_BPE || !piece || strncmp(piece, marker, m) != 0) return -1;
	other = align_respell(a->src, id, marker, text, sizeof text) ? text : "";
	return strncmp(other, marker, m) != 0 && strcmp(piece + m, other) == 0 ? (int32_t)p.first : -1;
}

/* Where there are several partners, the code takes space markers off, even when nothing is left. */
static const uint32_t *unmarked(const align_words *w, int32_t id, bool several, uint32_t *n)
{
	const uint32_t *s = align_word(w, id, n);

	if (several && *n > 0 && s[0] == ALIGN_MARK) *n = 0;
	return s;
}

static int32_t row_chat(const kf_aligner *a, const align_seq *s, int32_t token, align_partner p)
{
	uint32_t nt, ns;
	bool several = p.first != p.last;
	const uint32_t *t = unmarked(&a->lexicon->b, token, several, &nt), *o;

	for (uint32_t j = p.first; j <= p.last; j++) {
		o = unmarked(&a->lexicon->a, s->ids[j], several, &ns);
		if (a->map == KF_ALIGN_EXACT ? !several && ns == nt && align_ends(t, nt, o, ns)
			: align_ends(t, nt, o, ns) || align_ends(o, ns, t, nt)) return (int32_t)j;
	}
	return -1;
}

kf_status align_quirks(kf_aligner *a, const align_path *path, const kf_logits_rec *tgt, kf_arena *arena,
	align_out *out, kf_err *err)
{
	const kf_logits_rec *src = path->rec;
	bool chat = a->method == KF_ALIGN_DTW_CHAT;
	float *q = KF_ARENA_NEW(arena, float, (size_t)src->k + 1);
	align_partner *of_b = KF_ARENA_NEW(arena, align_partner, (size_t)tgt->n + 2);
	rows s, t;
	uint32_t at = 0;
	kf_status rc;

	if ((rc = align_check_target(a, tgt, err)) != KF_OK) return rc;
	if (!q || !of_b || !with_ends(src, kf_tokenizer_bos(a->src), chat ? -1 : a->src_eos, &s, arena) ||
	    !with_ends(tgt, kf_tokenizer_bos(a->tgt), chat ? -1 : a->tgt_eos, &t, arena))
		return kf_fail(err, KF_ENOMEM, "no memory to align a document");
	rc = align_partners(a->lexicon, &s.seq, &t.seq, chat ? ALIGN_LEFT_FIRST : ALIGN_UP_FIRST, arena, NULL, of_b,
		err);
	if (rc != KF_OK) return kf_context(err, rc, "document %llu", (unsigned long long)tgt->head.doc);

	for (uint32_t p = 0; p <= tgt->n; p++) {
		int32_t *id = out->ids + at, from = -1;
		uint32_t row = p + t.before - 1, kept = 0;

		out->off[p] = at;
		out->tail[p] = NAN;
		if ((p == 0 && !t.before) || !kf_predicted(tgt, p) || (chat && p == tgt->n)) continue;
		if (s.seq.n > 0) from = chat ? row_chat(a, &s.seq, t.seq.ids[row], of_b[row])
			: row_llm(a, &s.seq, t.seq.ids[row], of_b[row], row == 0);
		if (from < 0) {
			id[0] = chat ? tgt->tokens[p] : t.seq.ids[row];
			out->lp[at] = 0;
			out->tail[p] = 0;
			at++;
			continue;
		}
		/* the row of EOS is not stored: nothing comes after it */
		from += 1 - (int32_t)s.before;
		if ((uint32_t)from <= src->n && kf_predicted(src, (uint32_t)from))
			kept = align_take(a, src, (uint32_t)from, chat ? image_chat : image_llm, false, id, q);
		if (kept > 0) {
			double sum = 0;

			for (uint32_t j = 0; j < kept; j++) sum += q[j];
			for (uint32_t j = 0; j < kept; j++) q[j] = (float)(q[j] / sum);
			kept = kf_sparse_settle(kept, id, q, -1, out->lp + at, &out->tail[p]);
			out->covered += p < tgt->n;
		}
		at += kept;
	}
	out->off[tgt->n + 1] = at;
	return KF_OK;
}

static int32_t token_named(const kf_tokenizer *t, const char *name)
{
	for (int32_t id = 0; id < kf_tokenizer_size(t); id++) {
		const char *piece = kf_tokenizer_piece(t, id);

		if (piece && strcmp(piece, name) == 0) return id;
	}
	return -1;
}

kf_status kf_aligner_quirks(kf_aligner *a, kf_err *err)
{
	align_lexicon *decoded;
	kf_status rc;

	if (a->method == KF_ALIGN_BYTE)
		return kf_fail(err, KF_EUSAGE,
			"--reference-quirks goes with --method dtw and dtw-chat: no published code has --method byte");
	if (a->method == KF_ALIGN_DTW_CHAT) {
		if ((rc = align_lexicon_new(a->src, a->tgt, ALIGN_SPELL_DECODED, false, &decoded, err)) != KF_OK) return rc;
		align_lexicon_free(a->lexicon);
		a->lexicon = decoded;
	}
	/* what transformers has for unk_token */
	a->unknown = token_named(a->tgt, "<unk>");
	if (a->unknown < 0) a->unknown = token_named(a->tgt, "<|endoftext|>");
	if (a->unknown < 0) a->unknown = a->tgt_eos;
	a->quirks = true;
	return KF_OK;
}
