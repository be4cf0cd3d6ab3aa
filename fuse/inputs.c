#include "fuse/inputs.h"

#include <stdio.h>
#include <string.h>

#include "common/base/table.h"
#include "common/store/pass.h"

#define KEPT 99   /* bytes of a name */

static kf_status check_aligned(const kf_set *tgt, const kf_set *a, kf_err *err)
{
	const void *td, *ad;
	size_t tn, an;
	kf_fp fp;
	kf_status rc;

	if ((rc = kf_set_same_corpus(a, tgt, err)) != KF_OK) return rc;
	if ((rc = kf_set_tokenizer(tgt, &td, &tn, err)) != KF_OK) return rc;
	if ((rc = kf_set_tokenizer(a, &ad, &an, err)) != KF_OK) return rc;
	if (tn != an || memcmp(td, ad, tn) != 0)
		return kf_fail(err, KF_EMISMATCH,
			"%s was aligned to another tokenizer than that of %s: run kf-align with --target %s", kf_set_dir(a),
			kf_set_dir(tgt), kf_set_dir(tgt));
	if ((rc = kf_set_input_fp(a, "target", &fp, err)) != KF_OK) return rc;
	if (!kf_fp_equal(fp, kf_set_fp(tgt)))
		return kf_fail(err, KF_EMISMATCH,
			"%s was aligned to other logits of the target than %s: run kf-align again with --target %s",
			kf_set_dir(a), kf_set_dir(tgt), kf_set_dir(tgt));
	return KF_OK;
}

static void name_models(kf_fuse_inputs *in, bool with_target)
{
	int n = 0;

	if (with_target) {
		const char *name = kf_set_info_name(in->set[0], "model");

		snprintf(in->name[n++], sizeof *in->name, "%.*s", (int)kf_text_cut(name, KEPT), name);
	}
	for (int i = 1; i < in->n; i++, n++) {
		const char *name = kf_set_info_name(in->set[i], "source");
		bool taken = true;

		for (int number = 1; taken; number++) {
			if (number == 1) snprintf(in->name[n], sizeof *in->name, "%.*s", (int)kf_text_cut(name, KEPT), name);
			else snprintf(in->name[n], sizeof *in->name, "%.*s#%d", (int)kf_text_cut(name, KEPT), name, number);
			taken = false;
			for (int k = 0; k < n; k++) taken |= strcmp(in->name[k], in->name[n]) == 0;
			in->alike |= taken;
		}
	}
	for (int i = 0; i < n; i++) in->names[i] = in->name[i];
}

kf_status kf_fuse_inputs_by_name(const kf_fuse_inputs *in, kf_err *err)
{
	if (!in->alike) return KF_OK;
	return kf_fail(err, KF_EINVAL, "two models of one name are fused, and fitted weights are told apart by the names. Give one another name: "
		"kf-extract --name (of imported ones kf-import --name) into another --out, and kf-align it");
}

kf_status kf_fuse_inputs_open(kf_fuse_inputs *in, const char *target, const char *const *aligned,
	int n_aligned, bool with_target, kf_err *err)
{
	kf_status rc;

	memset(in, 0, sizeof *in);
	if (n_aligned < 0 || n_aligned + with_target < 1 || n_aligned >= KF_FUSE_MODELS)
		return kf_fail(err, KF_EINVAL, "give between 1 and %d sets with --aligned", KF_FUSE_MODELS - 1);
	in->models = n_aligned + with_target;
	if ((rc = kf_set_open(target, KF_SET_LOGITS, &in->set[0], err)) != KF_OK) return rc;
	in->n = 1;
	if ((rc = kf_set_whole(in->set[0], err)) != KF_OK) return rc;
	for (int i = 1; i <= n_aligned; i++) {
		if ((rc = kf_set_open(aligned[i - 1], KF_SET_ALIGNED, &in->set[i], err)) != KF_OK) return rc;
		in->n++;
		if ((rc = check_aligned(in->set[0], in->set[i], err)) != KF_OK) return rc;
		for (int k = 1; k < i; k++)
			if (kf_fp_equal(kf_set_fp(in->set[k]), kf_set_fp(in->set[i])))
				return kf_fail(err, KF_EINVAL, "--aligned %s and %s are the same set", aligned[k - 1], aligned[i - 1]);
	}
	name_models(in, with_target);
	return KF_OK;
}

void kf_fuse_inputs_close(kf_fuse_inputs *in)
{
	for (int i = 0; i < in->n; i++) kf_set_close(in->set[i]);
	in->n = 0;
}
