/* What a run needs of memory, either way, and which way is taken. */
#include "extract/impl.h"

enum {
	BASE = 32 << 20,           /* threads, libraries; with the tokenizer 18 to 40 MB were seen for vocabularies of 400 to 262,144 */
	TOKEN = 150,               /* bytes of the tokenizer for each of its tokens */
	MOST = 1 << 20,            /* tokens a block: reading is long hidden behind computing */
	UNKNOWN = 1 << 16          /* tokens a block where it is not known what memory there is */
};

/* What a token in hand takes beside its residual stream: its text and encoding (about four bytes of text, and 9), and its
 * record as run.c lays it out. */
static uint64_t answer_bytes(const kf_extract_opts *o)
{
	uint64_t n = 4 + 9 + 4 + 8 * (uint64_t)o->top_k;

	return o->byte_path ? n + 8 + 4 * 4 + 8 * (uint64_t)o->path_extra : n;
}

/* What the head is asked about a token of a batch (kf_question) and the lists it keeps (head_score.c), with four bytes a
 * token. */
static uint64_t question_bytes(const kf_extract_opts *o)
{
	uint64_t n = 4 * 6 + 16 * (uint64_t)o->top_k + 32;

	return o->byte_path ? n + 4 * (4 * 3 + 16 + 8 * (uint64_t)o->path_min) + 8 * (uint64_t)o->path_extra : n;
}

void kf_budget_block(kf_budget *b, size_t tokens)
{
	b->block = tokens;
	b->streaming = b->fixed + tokens * (b->answers + (b->scratch ? 0 : b->residual));
	if (b->scratch) b->scratch = tokens ? tokens * b->residual : 1;
}

kf_status kf_extract_budget(const kf_extractor *x, kf_budget *out, kf_err *err)
{
	const kf_extract_opts *o = x->o;
	const kf_arch *a = kf_weights_arch(x->weights);
	const kf_ops *ops = x->exec->ops;
	const uint64_t T = (uint64_t)o->batch_tokens, size = kf_num_size(x->exec->num);
	kf_budget b = { .weights = kf_stream_sizes_of(x->weights), .memory = kf_memory_now(""),
		.base = BASE + TOKEN * (uint64_t)kf_tokenizer_size(x->tokenizer) };
	uint64_t acts, question, groups, held, room;
	size_t block;
	size_t left = 0;
	kf_status rc;

	/* a little is left to others, and to what is not counted here */
	b.allowed = o->memory ? (uint64_t)o->memory * 1000000 : b.memory.available / 10 * 9;
	b.answers = answer_bytes(o);
	b.residual = kf_stream_token_bytes(a, x->exec->num);
	acts = kf_model_batch_bytes(a, x->exec->num, (size_t)T);
	/* panels of unpacked weights, tiles of the head */
	question = T * question_bytes(o) + (16u << 20) + 512 * 4 * (uint64_t)a->C;
	groups = 3 * KF_EXTRACT_GROUP * T * b.answers;
	b.batch = acts + question;
	b.in_memory = b.weights.all + b.batch + b.base + groups;
	if (ops->memory) {
		/* the weights are to be in the backend's memory, in its numbers; here they are read once */
		if ((rc = ops->memory(x->exec, &left, err)) != KF_OK) return rc;
		b.device = left / 10 * 9;
		b.device_in_memory = b.weights.values * size + acts;
		b.device_streaming = b.weights.resident_values * size + acts;
		b.batch = question;
		b.fits = b.device_in_memory <= b.device;
	} else {
		b.fits = !b.allowed || b.in_memory <= b.allowed;
	}
	b.told = o->stream != KF_STREAM_AUTO;
	b.stream = o->stream == KF_STREAM_YES || (o->stream == KF_STREAM_AUTO && !b.fits);

	held = b.answers + (o->scratch ? 0 : b.residual);
	/* the documents in hand are whole groups, so up to one more of them than the block */
	b.fixed = b.weights.resident + b.batch + b.base + groups + (o->scratch ? T * b.residual : 0);
	room = b.allowed > b.fixed ? (b.allowed - b.fixed) / held : 0;
	block = o->stream_tokens ? (size_t)o->stream_tokens : !b.allowed ? UNKNOWN : room < MOST ? (size_t)room : MOST;
	if (block < T && !o->stream_tokens) block = (size_t)T;
	b.scratch = o->scratch != NULL;
	kf_budget_block(&b, block);
	*out = b;
	return KF_OK;
}
