#include "eval/scores.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/record.h"
#include "common/model/way.h"

enum { MEASURE = 2 };          /* to be raised when the same model, asked the same, comes to other scores than before */

static kf_status no_memory(kf_err *err) { return kf_fail(err, KF_ENOMEM, "out of memory for the scores that are kept"); }

/* ---- what scores are of ---- */

static int put_fp(json_t *of, const char *what, kf_fp fp)
{
	char hex[KF_FP_HEX];

	kf_fp_hex(fp, hex);
	return json_object_set_new(of, what, json_string(hex));
}

kf_status kf_scores_add_fp(json_t *of, const char *what, kf_fp fp, kf_err *err)
{
	return put_fp(of, what, fp) == 0 ? KF_OK : no_memory(err);
}

kf_status kf_scores_of(const kf_eval_opts *o, const kf_subject *s, const char *chat, json_t **of, kf_err *err)
{
	const kf_ops *ops = o->ops ? o->ops : &kf_ops_cpu;
	char int8[KF_INT8_TEXT];
	kf_fp weights = { 0, 0 };
	kf_status rc = kf_weights_fp(s->weights, &weights, err);

	*of = NULL;
	if (rc != KF_OK) return rc;
	kf_int8_text(o->int8, int8);
	*of = json_pack("{s:i, s:s, s:s, s:s?, s:s?}", "measure", (int)MEASURE, "backend", ops->name, "compute", kf_compute_name(kf_eval_compute(o)),
		"int8", o->compute == KF_COMPUTE_INT8 ? int8 : NULL, "chat_template", chat);
	if (*of && put_fp(*of, "weights", weights) == 0 && put_fp(*of, "tokenizer", kf_tokenizer_fp(s->tokenizer)) == 0) return KF_OK;
	json_decref(*of);
	*of = NULL;
	return no_memory(err);
}

/* ---- files ---- */

static kf_status file_of(const char *dir, const json_t *of, char path[KF_PATH_MAX], kf_err *err)
{
	char name[KF_FP_HEX + 8], hex[KF_FP_HEX], *text = kf_record_canonical(of);

	if (!text) return no_memory(err);
	kf_fp_hex(kf_fp_of(text, strlen(text)), hex);
	free(text);
	snprintf(name, sizeof name, "%s.json", hex);
	return kf_path_join(path, dir, name, err);
}

json_t *kf_scores_find(const char *dir, const json_t *of)
{
	char path[KF_PATH_MAX];
	json_t *file = NULL, *scores = NULL;
	kf_err none;

	if (file_of(dir, of, path, &none) != KF_OK || kf_record_read(path, &file, &none) != KF_OK) return NULL;
	if (json_equal(json_object_get(file, "of"), of)) scores = json_incref(json_object_get(file, "scores"));
	json_decref(file);
	return scores;
}

kf_status kf_scores_keep(const char *dir, const json_t *of, const json_t *scores, kf_err *err)
{
	char path[KF_PATH_MAX];
	json_t *file = scores ? json_pack("{s:O, s:O}", "of", of, "scores", scores) : NULL;
	kf_status rc = file ? file_of(dir, of, path, err) : no_memory(err);

	if (rc == KF_OK) rc = kf_record_write(path, file, err);
	json_decref(file);
	return rc;
}

bool kf_scores_put(json_t *scores, const char *name, const double *v, size_t n)
{
	json_t *list = json_array();
	bool ok = list != NULL;

	for (size_t i = 0; i < n && ok; i++) ok = json_array_append_new(list, kf_record_number(v[i])) == 0;
	return json_object_set_new(scores, name, list) == 0 && ok;
}

bool kf_scores_take(const json_t *scores, const char *name, double *v, size_t n)
{
	const json_t *list = json_object_get(scores, name);

	if (json_array_size(list) != n) return false;
	for (size_t i = 0; i < n; i++) {
		const json_t *one = json_array_get(list, i);

		if (!json_is_number(one)) return false;
		v[i] = json_number_value(one);
	}
	return true;
}
