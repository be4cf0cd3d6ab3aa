#include "common/model/weights_impl.h"

#include "common/base/file.h"

kf_status kf_weights_tokenizer(const kf_weights *w, kf_tokenizer **out, kf_err *err)
{
	kf_vocab_spec spec;
	kf_arena arena;
	kf_status rc;

	*out = NULL;
	kf_arena_init(&arena);
	if (w->gguf) {
		if ((rc = kf_gguf_vocab(w->gguf, &arena, &spec, err)) == KF_OK)
			rc = kf_context(err, kf_tokenizer_from_spec(&spec, out, err), "%s", w->path);
	} else {
		rc = kf_tokenizer_open_dir(w->path, out, err);
	}
	kf_arena_release(&arena);
	if (rc == KF_OK && kf_tokenizer_size(*out) > w->arch.V) {
		rc = kf_fail(err, KF_EMISMATCH, "%s: its tokenizer has %d ids, but its embedding has only %d rows",
			w->path, kf_tokenizer_size(*out), w->arch.V);
		kf_tokenizer_free(*out);
		*out = NULL;
	}
	return rc;
}
