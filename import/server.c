/* Responses of servers. */
#include <math.h>
#include <stdlib.h>

#include "import/answer.h"

/* ---- vLLM: prompt_logprobs ---- */

/* The id that is the key of an entry; -1: it is none. */
static int32_t key_id(const char *key)
{
	char *end;
	long long id = key[0] >= '0' && key[0] <= '9' ? strtoll(key, &end, 10) : -1;

	return id >= 0 && id <= INT32_MAX && !*end ? (int32_t)id : -1;
}

/* {"17": {"logprob": -0.5, "rank": 1, "decoded_token": " a"}, ...} */
static kf_status vllm_row(import_answer *a, const json_t *row, size_t at, uint32_t *n, kf_err *err)
{
	const char *key;
	json_t *v;
	kf_status rc;

	json_object_foreach((json_t *)(uintptr_t)row, key, v) {
		if ((a->cand[*n] = key_id(key)) < 0)
			return kf_fail(err, KF_EDATA, "%s: item %zu of \"prompt_logprobs\" has a key \"%.40s\" that is no token's id", a->where, at, key);
		if (json_is_object(v)) v = json_object_get(v, "logprob");
		if ((rc = import_number(a, v, "prompt_logprobs", at, &a->cand_lp[*n], err)) != KF_OK) return rc;
		if (isnan(a->cand_lp[*n]))
			return kf_fail(err, KF_EDATA, "%s: item %zu of \"prompt_logprobs\" has no \"logprob\" for %s", a->where, at, key);
		++*n;
	}
	return KF_OK;
}

/* Candidates by name: {" a": -0.5, ...} */
static kf_status named_row(import_answer *a, const json_t *row, const char *what, size_t at, const import_names *names, uint32_t *n,
	kf_err *err)
{
	const char *key;
	json_t *v;
	kf_status rc;

	if (!row || json_is_null(row)) return KF_OK;
	if (!json_is_object(row)) return kf_fail(err, KF_EDATA, "%s: item %zu of \"%s\" is not an object", a->where, at, what);
	a->named = true;
	json_object_foreach((json_t *)(uintptr_t)row, key, v) {
		import_candidate(a, (uint32_t)at, *n, key, names);
		if ((rc = import_number(a, v, what, at, &a->cand_lp[*n], err)) != KF_OK) return rc;
		if (isnan(a->cand_lp[*n])) return kf_fail(err, KF_EDATA, "%s: item %zu of \"%s\" has a null", a->where, at, what);
		++*n;
	}
	return KF_OK;
}

/* What the server said of the first token after the prompt of n tokens: an entry of a completion's top_logprobs. With echo the prompt's come
 * first, of which the very first is null, as nothing predicts it. */
static const json_t *next_row(const json_t *choice, size_t n)
{
	const json_t *top = json_object_get(json_object_get(choice, "logprobs"), "top_logprobs");
	size_t have = json_array_size(top);

	return json_is_array(top) && have ? json_array_get(top, have > n && json_is_null(json_array_get(top, 0)) ? n : 0) : NULL;
}

kf_status import_answer_vllm(const json_t *body, const json_t *choice, const import_names *names, kf_arena *arena,
	import_answer *a, kf_err *err)
{
	const json_t *list, *ids = NULL, *next, *holder[3] = { body, choice, NULL };
	size_t n, cands = 0;
	uint32_t at = 0;
	kf_status rc;

	if ((rc = import_list(a, body, "prompt_logprobs", &list, err)) != KF_OK) return rc;
	if (!list && (rc = import_list(a, choice, "prompt_logprobs", &list, err)) != KF_OK) return rc;
	for (int i = 0; holder[i] && !ids; i++)
		if ((rc = import_list(a, holder[i], "prompt_token_ids", &ids, err)) != KF_OK) return rc;
	n = json_array_size(list);
	if (ids && json_array_size(ids) != n)
		return kf_fail(err, KF_EDATA, "%s: \"prompt_logprobs\" has %zu items, \"prompt_token_ids\" %zu", a->where, n, json_array_size(ids));
	next = next_row(choice, n);
	for (size_t i = 0; i < n; i++) {
		const json_t *row = json_array_get(list, i);

		if (!json_is_object(row) && !json_is_null(row))
			return kf_fail(err, KF_EDATA, "%s: item %zu of \"prompt_logprobs\" is neither an object nor null", a->where, i);
		cands += json_object_size(row);
	}
	if ((rc = import_answer_alloc(a, n, n + (next != NULL), cands + json_object_size(next), arena, err)) != KF_OK) return rc;
	for (size_t i = 0; i < n; i++) {
		const json_t *row = json_array_get(list, i);

		a->off[i] = at;
		if (!json_is_null(row) && (rc = vllm_row(a, row, i, &at, err)) != KF_OK) return rc;
		if (ids && (rc = import_id(a, json_array_get(ids, i), "prompt_token_ids", i, &a->id[i], err)) != KF_OK) return rc;
	}
	a->off[n] = at;
	if (!next) return KF_OK;
	if ((rc = named_row(a, next, "top_logprobs", n, names, &at, err)) != KF_OK) return rc;
	a->off[n + 1] = at;
	return KF_OK;
}

/* ---- OpenAI: a completion with echo ---- */

static kf_status offsets_of(import_answer *a, const json_t *o, kf_arena *arena, kf_err *err)
{
	const json_t *list;
	uint32_t *at;
	int32_t v;
	kf_status rc;

	if ((rc = import_list(a, o, "text_offset", &list, err)) != KF_OK || !list) return rc;
	if (json_array_size(list) != a->n)
		return kf_fail(err, KF_EDATA, "%s: \"text_offset\" has %zu items for %u tokens", a->where, json_array_size(list), a->n);
	if (!(at = KF_ARENA_NEW(arena, uint32_t, (size_t)a->n + 1))) return import_nomem(a, err);
	for (uint32_t i = 0; i < a->n; i++) {
		if ((rc = import_id(a, json_array_get(list, i), "text_offset", i, &v, err)) != KF_OK) return rc;
		at[i] = (uint32_t)v;
		if (i && at[i] < at[i - 1])
			return kf_fail(err, KF_EDATA, "%s: item %u of \"text_offset\", %u, is below the one before it", a->where, i, at[i]);
	}
	a->offset = at;
	return KF_OK;
}

kf_status import_answer_openai(const json_t *choice, const import_names *names, kf_arena *arena, import_answer *a, kf_err *err)
{
	const json_t *o = json_object_get(choice, "logprobs"), *tokens, *lps, *top;
	size_t n, cands = 0;
	uint32_t at = 0;
	kf_status rc;

	if ((rc = import_list(a, o, "tokens", &tokens, err)) != KF_OK || (rc = import_list(a, o, "token_logprobs", &lps, err)) != KF_OK ||
	    (rc = import_list(a, o, "top_logprobs", &top, err)) != KF_OK)
		return rc;
	if (!tokens || !lps)
		return kf_fail(err, KF_EDATA, "%s: its \"logprobs\" have no \"tokens\" and \"token_logprobs\": ask for a completion, not a chat, "
			"with echo and logprobs", a->where);
	n = json_array_size(tokens);
	if (json_array_size(lps) != n || (top && json_array_size(top) != n))
		return kf_fail(err, KF_EDATA, "%s: %zu \"tokens\", %zu \"token_logprobs\" and %zu \"top_logprobs\"", a->where, n,
			json_array_size(lps), json_array_size(top));
	for (size_t i = 0; top && i < n; i++) cands += json_object_size(json_array_get(top, i));
	if ((rc = import_answer_alloc(a, n, n, cands, arena, err)) != KF_OK) return rc;
	for (size_t i = 0; i < n; i++) {
		const json_t *t = json_array_get(tokens, i);

		if (!json_is_string(t)) return kf_fail(err, KF_EDATA, "%s: item %zu of \"tokens\" is not a string", a->where, i);
		a->name[i] = (import_name){ json_string_value(t), json_string_length(t) };
		a->off[i] = at;
		if ((rc = import_number(a, json_array_get(lps, i), "token_logprobs", i, &a->lp[i], err)) != KF_OK) return rc;
		if (top && (rc = named_row(a, json_array_get(top, i), "top_logprobs", i, names, &at, err)) != KF_OK) return rc;
	}
	a->off[n] = at;
	return offsets_of(a, o, arena, err);
}
