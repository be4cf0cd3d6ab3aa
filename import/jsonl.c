/* Our own form: all that kf-export writes, or less. */
#include <math.h>
#include <stdlib.h>

#include "import/answer.h"

static kf_status tokens_of(import_answer *a, const json_t *list, kf_err *err)
{
	kf_status rc;

	for (uint32_t i = 0; i < a->n; i++) {
		const json_t *t = json_array_get(list, i);

		if (json_is_string(t)) a->name[i] = (import_name){ json_string_value(t), json_string_length(t) };
		else if ((rc = import_id(a, t, "tokens", i, &a->id[i], err)) != KF_OK) return rc;
	}
	return KF_OK;
}

static kf_status wrong_length(const import_answer *a, const char *what, size_t have, kf_err *err)
{
	return kf_fail(err, KF_EDATA, "%s: \"%s\" has %zu items for %u tokens", a->where, what, have, a->n);
}

/* "ce", or "logprobs" with the other sign. */
static kf_status own_numbers(import_answer *a, const json_t *line, kf_err *err)
{
	const json_t *ce, *lp;
	const char *what;
	kf_status rc;

	if ((rc = import_list(a, line, "ce", &ce, err)) != KF_OK || (rc = import_list(a, line, "logprobs", &lp, err)) != KF_OK) return rc;
	what = ce ? "ce" : "logprobs";
	if (!ce && !lp) return KF_OK;
	if (json_array_size(ce ? ce : lp) != a->n) return wrong_length(a, what, json_array_size(ce ? ce : lp), err);
	for (uint32_t i = 0; i < a->n; i++) {
		if ((rc = import_number(a, json_array_get(ce ? ce : lp, i), what, i, &a->lp[i], err)) != KF_OK) return rc;
		if (ce) a->lp[i] = -a->lp[i];
	}
	return KF_OK;
}

/* "top_ids" and "top_logprobs", lists a position. */
static kf_status pairs(import_answer *a, const json_t *ids, const json_t *lps, kf_err *err)
{
	uint32_t at = 0;
	kf_status rc;

	for (uint32_t p = 0; p < a->rows; p++) {
		const json_t *id = json_array_get(ids, p), *lp = json_array_get(lps, p);
		size_t n = json_array_size(id);

		a->off[p] = at;
		if (n != json_array_size(lp) || (!json_is_array(id) && !json_is_null(id)))
			return kf_fail(err, KF_EDATA, "%s: item %u of \"top_ids\" and of \"top_logprobs\" are not lists of one length", a->where, p);
		for (size_t j = 0; j < n; j++, at++) {
			if ((rc = import_id(a, json_array_get(id, j), "top_ids", p, &a->cand[at], err)) != KF_OK) return rc;
			if ((rc = import_number(a, json_array_get(lp, j), "top_logprobs", p, &a->cand_lp[at], err)) != KF_OK) return rc;
			if (isnan(a->cand_lp[at])) return kf_fail(err, KF_EDATA, "%s: item %u of \"top_logprobs\" has a null", a->where, p);
		}
	}
	a->off[a->rows] = at;
	return KF_OK;
}

/* "top": an object a position, null where there is nothing. Keys are ids where tokens are, strings where tokens are. */
static kf_status objects(import_answer *a, const json_t *top, bool by_id, const import_names *names, kf_err *err)
{
	uint32_t at = 0;
	kf_status rc;

	a->named = !by_id;
	for (uint32_t p = 0; p < a->rows; p++) {
		const json_t *row = json_array_get(top, p);
		const char *key;
		json_t *v;

		a->off[p] = at;
		if (!json_is_object(row) && !json_is_null(row))
			return kf_fail(err, KF_EDATA, "%s: item %u of \"top\" is neither an object nor null", a->where, p);
		if (json_is_null(row)) continue;
		json_object_foreach((json_t *)(uintptr_t)row, key, v) {
			char *end;
			long long id = by_id ? strtoll(key, &end, 10) : 0;

			if (by_id && (!*key || *end || id < 0 || id > INT32_MAX))
				return kf_fail(err, KF_EDATA, "%s: item %u of \"top\" has a key \"%.40s\" that is no id, as those of \"tokens\" are",
					a->where, p, key);
			if (by_id) a->cand[at] = (int32_t)id;
			else import_candidate(a, p, at, key, names);
			if ((rc = import_number(a, v, "top", p, &a->cand_lp[at], err)) != KF_OK) return rc;
			if (isnan(a->cand_lp[at])) return kf_fail(err, KF_EDATA, "%s: item %u of \"top\" has a null", a->where, p);
			at++;
		}
	}
	a->off[a->rows] = at;
	return KF_OK;
}

/* A list of lists of numbers, flat: *off (rows + 1); values or ids (one of them NULL). Masses are -ln, not ln. */
static kf_status flat(const import_answer *a, const json_t *o, const char *what, uint32_t rows, kf_arena *arena, const uint32_t **off,
	const float **values, const int32_t **ids, kf_err *err)
{
	const json_t *list;
	size_t total = 0;
	uint32_t *at, n = 0;
	float *x;
	int32_t *id;
	kf_status rc;

	if ((rc = import_list(a, o, what, &list, err)) != KF_OK) return rc;
	if (!list) return kf_fail(err, KF_EDATA, "%s: it has \"path_nlm\" but no \"%s\"", a->where, what);
	if (json_array_size(list) != rows) return wrong_length(a, what, json_array_size(list), err);
	for (uint32_t p = 0; p < rows; p++) {
		if (!json_is_array(json_array_get(list, p))) return kf_fail(err, KF_EDATA, "%s: item %u of \"%s\" is not a list", a->where, p, what);
		total += json_array_size(json_array_get(list, p));
	}
	at = KF_ARENA_NEW(arena, uint32_t, (size_t)rows + 1);
	x = KF_ARENA_NEW(arena, float, total + 1);
	id = KF_ARENA_NEW(arena, int32_t, total + 1);
	if (!at || !x || !id || total > UINT32_MAX / 2) return import_nomem(a, err);
	for (uint32_t p = 0; p < rows; p++) {
		const json_t *row = json_array_get(list, p);

		at[p] = n;
		for (size_t j = 0; j < json_array_size(row); j++, n++) {
			if (ids) rc = import_id(a, json_array_get(row, j), what, p, &id[n], err);
			else rc = import_number(a, json_array_get(row, j), what, p, &x[n], err);
			if (rc != KF_OK) return rc;
		}
	}
	at[rows] = n;
	*off = at;
	if (values) *values = x;
	if (ids) *ids = id;
	return KF_OK;
}

static kf_status path_of(import_answer *a, const json_t *line, kf_arena *arena, kf_err *err)
{
	const uint32_t *lp_off;
	kf_status rc;

	if (!json_is_array(json_object_get(line, "path_nlm"))) return KF_OK;
	a->path = true;
	if ((rc = flat(a, line, "path_nlm", a->n, arena, &a->path_off, &a->path_nlm, NULL, err)) != KF_OK) return rc;
	if ((rc = flat(a, line, "extra_ids", a->n + 1, arena, &a->extra_off, NULL, &a->extra_ids, err)) != KF_OK) return rc;
	if ((rc = flat(a, line, "extra_logprobs", a->n + 1, arena, &lp_off, &a->extra_lp, NULL, err)) != KF_OK) return rc;
	if (memcmp(lp_off, a->extra_off, ((size_t)a->n + 2) * sizeof *lp_off))
		return kf_fail(err, KF_EDATA, "%s: \"extra_ids\" and \"extra_logprobs\" are not of one length", a->where);
	return KF_OK;
}

static kf_status places_of(import_answer *a, const json_t *line, kf_arena *arena, kf_err *err)
{
	const json_t *starts, *context;
	uint32_t *start;
	uint8_t *c;
	int32_t v;
	kf_status rc;

	if ((rc = import_list(a, line, "start", &starts, err)) != KF_OK || (rc = import_list(a, line, "context", &context, err)) != KF_OK)
		return rc;
	if (starts) {
		a->n_start = (uint32_t)json_array_size(starts);
		if (a->n_start != a->n && a->n_start != a->n + 1) return wrong_length(a, "start", a->n_start, err);
		if (!(a->start = start = KF_ARENA_NEW(arena, uint32_t, (size_t)a->n_start + 1))) return import_nomem(a, err);
		for (uint32_t i = 0; i < a->n_start; i++) {
			json_int_t x = json_integer_value(json_array_get(starts, i));

			if (!json_is_integer(json_array_get(starts, i)) || x < 0 || x > UINT32_MAX)
				return kf_fail(err, KF_EDATA, "%s: item %u of \"start\" is not a place in the text", a->where, i);
			start[i] = (uint32_t)x;
		}
	}
	if (!context) return KF_OK;
	if (json_array_size(context) != (size_t)a->n + 1) return wrong_length(a, "context", json_array_size(context), err);
	if (!(a->context = c = KF_ARENA_NEW(arena, uint8_t, (size_t)a->n + 1))) return import_nomem(a, err);
	for (uint32_t i = 0; i <= a->n; i++) {
		if ((rc = import_id(a, json_array_get(context, i), "context", i, &v, err)) != KF_OK) return rc;
		if (v > 1) return kf_fail(err, KF_EDATA, "%s: item %u of \"context\" is neither 0 nor 1", a->where, i);
		c[i] = (uint8_t)v;
	}
	return KF_OK;
}

kf_status import_answer_jsonl(const json_t *line, const import_names *names, kf_arena *arena, import_answer *a, kf_err *err)
{
	const json_t *tokens, *ids, *lps, *top, *list, *bos = json_object_get(line, "bos");
	size_t n, rows, cands = 0;
	kf_status rc;

	if ((rc = import_list(a, line, "tokens", &tokens, err)) != KF_OK || (rc = import_list(a, line, "top_ids", &ids, err)) != KF_OK ||
	    (rc = import_list(a, line, "top_logprobs", &lps, err)) != KF_OK || (rc = import_list(a, line, "top", &top, err)) != KF_OK)
		return rc;
	if (bos && !json_is_null(bos)) {
		if (!json_is_boolean(bos)) return kf_fail(err, KF_EDATA, "%s: \"bos\" is neither true nor false", a->where);
		a->bos = json_is_true(bos);
	}
	n = json_array_size(tokens);
	a->n = (uint32_t)n;
	list = ids ? ids : top;
	rows = list ? json_array_size(list) : n;
	if (rows != n && rows != n + 1) return wrong_length(a, ids ? "top_ids" : "top", rows, err);
	if (ids && (!lps || json_array_size(lps) != rows)) return wrong_length(a, "top_logprobs", json_array_size(lps), err);
	for (size_t i = 0; list && i < rows; i++) {
		const json_t *row = json_array_get(list, i);

		cands += ids ? json_array_size(row) : json_object_size(row);
	}
	if ((rc = import_answer_alloc(a, n, rows, cands, arena, err)) != KF_OK) return rc;
	if ((rc = tokens_of(a, tokens, err)) != KF_OK || (rc = own_numbers(a, line, err)) != KF_OK) return rc;
	if (ids) rc = pairs(a, ids, lps, err);
	else if (top) rc = objects(a, top, n > 0 && a->id[0] >= 0, names, err);
	if (rc == KF_OK) rc = places_of(a, line, arena, err);
	return rc == KF_OK ? path_of(a, line, arena, err) : rc;
}
