#include "common/text/internal.h"
kf_status kf_tokenizer_open_dir(const char *dir, kf_tokenizer **out, kf_err *err)
{
	*out = NULL;
	return kf_fail(err, KF_EUNSUPPORTED, "Cannot read the tokenizer of %s yet.", dir);
}
kf_status kf_tokenizer_write_hf(const kf_tokenizer *t, const char *dir, kf_err *err)
{
	(void)t;
	return kf_fail(err, KF_EUNSUPPORTED, "Cannot write a tokenizer into %s yet.", dir);
}
