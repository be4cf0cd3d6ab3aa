/* A plan in words, and as JSON. */
#include <stdio.h>
#include <string.h>

#include "extract/plan.h"

typedef struct { char s[24]; } figure;

static figure bytes(double n)
{
	figure f;

	if (n < 999.5e3) snprintf(f.s, sizeof f.s, "%.0f kB", n * 1e-3);
	else if (n < 999.5e6) snprintf(f.s, sizeof f.s, "%.*f MB", n < 9.95e6 ? 1 : 0, n * 1e-6);
	else snprintf(f.s, sizeof f.s, "%.*f GB", n < 99.5e9 ? 1 : 0, n * 1e-9);
	return f;
}

static figure count(double n)
{
	figure f;

	kf_format_count(f.s, sizeof f.s, n);
	return f;
}

static figure work(double flops)
{
	const char *const units[] = { "", "k", "M", "G", "T", "P", "E" };
	size_t u = 0;
	figure f;

	for (; flops >= 999.5 && u + 1 < sizeof units / sizeof *units; u++) flops *= 1e-3;
	snprintf(f.s, sizeof f.s, "%.3g %sFLOP", flops, units[u]);
	return f;
}

static figure span(double seconds)
{
	figure f;

	kf_format_time(f.s, sizeof f.s, seconds);
	return f;
}

static void say_memory(const kf_extract_plan *p, kf_buf *out)
{
	const kf_budget *b = &p->budget;
	const kf_stream_sizes *z = &b->weights;
	const double groups = (double)KF_EXTRACT_GROUP * p->batch_tokens * (double)b->answers, block = (double)b->block;

	kf_buf_printf(out, "weights     %s: %d layers, the largest %s; the head %s; %s are in the kernel's cache now\n", bytes((double)z->all).s,
		p->layers, bytes((double)z->layer).s, bytes((double)z->head).s, bytes((double)p->cached).s);
	kf_buf_printf(out, "memory      %s available of %s%s; planned for: %s\n", bytes((double)b->memory.available).s, bytes((double)b->memory.total).s,
		b->memory.limited ? " that the control group allows" : "", bytes((double)b->allowed).s);
	if (b->device)
		kf_buf_printf(out, "device      %s to be used; in memory %s, streamed %s\n", bytes((double)b->device).s,
			bytes((double)b->device_in_memory).s, bytes((double)b->device_streaming).s);
	kf_buf_printf(out, "in memory   %s: weights, %s for a batch of %d tokens, %s for documents in hand, %s for the rest\n",
		bytes((double)b->in_memory).s, bytes((double)b->batch).s, p->batch_tokens, bytes(groups).s, bytes((double)b->base).s);
	kf_buf_printf(out, "streamed    %s: %s of weights at a time, a batch and documents as above, and blocks of %s tokens, %s%s\n",
		bytes((double)b->streaming).s, bytes((double)z->resident).s, count(block).s,
		bytes(block * (double)(b->answers + (b->scratch ? 0 : b->residual))).s, b->scratch ? ", and" : "");
	if (b->scratch) kf_buf_printf(out, "            %s in the scratch file\n", bytes((double)b->scratch).s);
	if (b->allowed && b->streaming > b->allowed)
		kf_buf_printf(out, "            that is more than is planned for: fewer --batch-tokens or --stream-tokens%s help\n",
			b->scratch ? "" : " or --scratch");
	kf_buf_printf(out, "chosen      %s: %s", b->stream ? "layer by layer" : "in memory", b->told ? b->stream ? "--stream yes; " : "--stream no; " : "");
	if (b->device)
		kf_buf_printf(out, "on the device the weights %s\n", b->fits ? "fit" : "do not fit");
	else
		kf_buf_printf(out, "%s\n", !b->allowed ? "what memory there is is not known" : b->fits ? "all fits" : "the weights do not fit with the rest");
}

static void say_time(const kf_extract_plan *p, kf_buf *out)
{
	const kf_budget *b = &p->budget;

	kf_buf_printf(out, "reading     %s for the fingerprint", bytes((double)b->weights.all).s);
	if (b->stream)
		kf_buf_printf(out, "; %s for each of %llu block%s%s: %s\n", bytes((double)b->weights.a_block).s, (unsigned long long)p->blocks,
			p->blocks == 1 ? "" : "s", b->weights.experts ? " (when all experts are chosen)" : "",
			bytes((double)b->weights.a_block * (double)p->blocks).s);
	else
		kf_buf_printf(out, "%s\n", b->fits ? ", and then they stay in memory" : "; what does not stay in memory is read again for every batch");
	kf_buf_printf(out, "work        %s\n", work(p->flops).s);
	if (p->probe_tokens)
		kf_buf_printf(out, "probed      the first layer and the head, on %d tokens of the corpus: %s/s in the layer\n", p->probe_tokens,
			work(p->flop_rate).s);
	if (p->read_bytes)
		kf_buf_printf(out, "            reading %s of weights that were in no cache: %s/s\n", bytes((double)p->read_bytes).s, bytes(p->read_rate).s);
	if (p->probe_tokens)
		kf_buf_printf(out, "time        %s computing; with reading %s in memory, %s streamed\n", span(p->computing).s, span(p->in_memory).s,
			span(p->streaming).s);
	kf_buf_printf(out, "output      about %s\n", bytes((double)p->output).s);
}

static void say_unknown(const kf_extract_plan *p, kf_buf *out)
{
	kf_buf_printf(out, "not known   ");
	if (!p->read_bytes)
		kf_buf_printf(out, "how fast the weights are read (too few were out of the kernel's cache to try): reading is counted as nothing; ");
	if (!p->probe_tokens)
		kf_buf_printf(out, "the time (there was no text to try); ");
	if (p->way_open)
		kf_buf_printf(out, "whether --compute auto finds a faster way than float32, which is what was probed (a run tries up to four on a little text, "
			"each of which reads the weights once); ");
	if (!p->exact)
		kf_buf_printf(out, "how the rest of the text is cut into tokens; ");
	kf_buf_printf(out, "what else will run on the machine; what an earlier run has done already. The output's size is that of other models' on "
		"other text\n");
}

void kf_extract_plan_text(const kf_extract_plan *p, kf_buf *out)
{
	kf_buf_printf(out, "model       %s\n", p->model);
	kf_buf_printf(out, "corpus      %llu documents, %s of text; %s%s tokens%s", (unsigned long long)p->documents, bytes((double)p->bytes).s,
		p->exact ? "" : "about ", count(p->tokens).s, p->exact ? "" : ", from ");
	if (!p->exact)
		kf_buf_printf(out, "%llu documents spread over it (%.1f %% of the bytes)", (unsigned long long)p->sampled_documents,
			p->bytes ? 100.0 * (double)p->sampled_bytes / (double)p->bytes : 0);
	kf_buf_printf(out, "; %s to run, %s to predict\n", count(p->fed).s, count(p->asked).s);
	say_memory(p, out);
	say_time(p, out);
	say_unknown(p, out);
}

json_t *kf_extract_plan_json(const kf_extract_plan *p)
{
	const kf_budget *b = &p->budget;
	const kf_stream_sizes *z = &b->weights;
	json_t *j = json_pack("{s:s, s:{s:I, s:I, s:I, s:I, s:b, s:f, s:f, s:f}, s:{s:I, s:i, s:I, s:I, s:I, s:I, s:I}}",
		"model", p->model,
		"corpus", "documents", (json_int_t)p->documents, "bytes", (json_int_t)p->bytes, "sampled_documents",
		(json_int_t)p->sampled_documents, "sampled_bytes", (json_int_t)p->sampled_bytes, "exact", p->exact, "tokens", p->tokens,
		"fed", p->fed, "predicted", p->asked,
		"weights", "bytes", (json_int_t)z->all, "layers", p->layers, "largest_layer", (json_int_t)z->layer, "head",
		(json_int_t)z->head, "experts", (json_int_t)z->experts, "a_block", (json_int_t)z->a_block, "cached", (json_int_t)p->cached);
	json_t *memory = json_pack("{s:I, s:I, s:b, s:I, s:I, s:I, s:I, s:I, s:b}",
		"available", (json_int_t)b->memory.available, "total", (json_int_t)b->memory.total, "limited", b->memory.limited,
		"planned_for", (json_int_t)b->allowed, "in_memory", (json_int_t)b->in_memory, "streamed", (json_int_t)b->streaming,
		"streamed_weights", (json_int_t)z->resident, "scratch", (json_int_t)b->scratch, "fits", b->fits);
	json_t *work = json_pack("{s:s, s:I, s:I, s:I, s:f, s:I}",
		"chosen", b->stream ? "stream" : "memory", "block_tokens", (json_int_t)b->block, "blocks", (json_int_t)p->blocks,
		"read_bytes", (json_int_t)(z->all + (b->stream ? z->a_block * p->blocks : 0)), "flop", p->flops,
		"output_bytes", (json_int_t)p->output);

	/* what is not known is null */
	if (j && memory && work && b->device)
		json_object_set_new(memory, "device", json_pack("{s:I, s:I, s:I}", "planned_for", (json_int_t)b->device, "in_memory",
			(json_int_t)b->device_in_memory, "streamed", (json_int_t)b->device_streaming));
	if (j && memory && work &&
	    json_object_set_new(work, "probe", json_pack("{s:i, s:o, s:I, s:o}", "tokens", p->probe_tokens, "flop_per_second",
		p->probe_tokens ? json_real(p->flop_rate) : json_null(), "read_bytes", (json_int_t)p->read_bytes,
		"bytes_per_second", p->read_bytes ? json_real(p->read_rate) : json_null())) == 0 &&
	    json_object_set_new(work, "seconds", p->probe_tokens ? json_pack("{s:f, s:f, s:f, s:f}", "computing", p->computing,
		"fingerprint", p->fingerprint, "in_memory", p->in_memory, "streamed", p->streaming) : json_null()) == 0 &&
	    json_object_set(j, "memory", memory) == 0 && json_object_set(j, "run", work) == 0) {
		json_decref(memory);
		json_decref(work);
		return j;
	}
	json_decref(j);
	json_decref(memory);
	json_decref(work);
	return NULL;
}
