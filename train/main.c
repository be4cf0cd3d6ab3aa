#include <math.h>
#include <stdio.h>

#include "common/base/opt.h"
#include "common/base/progress.h"
#include "common/ops/backend.h"
#include "common/store/set.h"
#include "train/output.h"
#include "train/train.h"

static kf_train_opts o = {
	.lambda = 0.9, .temperature = 1, .tail = KF_TAIL_REST, .lr = 1e-5, .warmup = 0.008, .decay = 0.1, .beta1 = 0.9,
	.beta2 = 0.95, .clip = 1, .batch_tokens = 16384, .keep_mb = -1, .epochs = 1, .save_every = 100,
};
static int compute;                  /* kf_compute */
static const char *fold;             /* "I/N" or NULL */
static kf_ranks *ranks;              /* NULL: this process alone */
static kf_common common;

static const kf_opt TABLE[] = {
	{ "model", KF_OPT_STRING, &o.model, "PATH", "model to train: a Hugging Face folder or a GGUF file", .flags = KF_OPT_REQUIRED },
	{ "targets", KF_OPT_STRING, &o.targets, "DIR", "what to train on: targets of kf-fuse; aligned documents or logits of the "
		"same tokenizer serve too", .flags = KF_OPT_REQUIRED },
	{ "out", KF_OPT_STRING, &o.out, "DIR", "folder to make, in Hugging Face's format", .flags = KF_OPT_REQUIRED },
	{ "valid", KF_OPT_STRING, &o.valid, "DIR", "corpus to measure after each epoch; the best epoch becomes the output", 0, 0, 0 },
	{ "fold", KF_OPT_STRING, &fold, "I/N", "leave out part I (0-based) of N, at least 2, of the texts, all pieces of a text together: kf-extract --fold I/N has the model "
		"predict these, which it has not seen", 0, 0, KF_OPT_SHAPES | KF_OPT_OFF },
	{ "lambda", KF_OPT_REAL, &o.lambda, "X", "share of the plain language-model loss; the rest is fusion", 0, 1, KF_OPT_SHAPES },
	{ "lambda-schedule", KF_OPT_CHOICE, &o.lambda_decay, "constant|decay", "decay: fusion's share falls to 0 along the run",
		0, 0, KF_OPT_SHAPES },
	{ "loss", KF_OPT_CHOICE, &o.loss, "ce|kl", "fusion loss against the candidates", 0, 0, KF_OPT_SHAPES },
	{ "tail", KF_OPT_CHOICE, &o.tail, "rest|renormalize", "mass outside the candidates: one more outcome, or none", 0, 0, KF_OPT_SHAPES },
	{ "temperature", KF_OPT_REAL, &o.temperature, "X", "of both distributions in the fusion loss", 0, 100, KF_OPT_SHAPES | KF_OPT_POSITIVE },
	{ "lr", KF_OPT_REAL, &o.lr, "X", "highest learning rate", 0, 1, KF_OPT_SHAPES },
	{ "lr-schedule", KF_OPT_CHOICE, &o.lr_kind, "cosine|constant|linear", "its course after the warm-up", 0, 0, KF_OPT_SHAPES },
	{ "warmup", KF_OPT_REAL, &o.warmup, "X", "share of the steps over which it rises", 0, 1, KF_OPT_SHAPES },
	{ "weight-decay", KF_OPT_REAL, &o.decay, "X", "AdamW, of matrices", 0, 10, KF_OPT_SHAPES },
	{ "beta1", KF_OPT_REAL, &o.beta1, "X", "AdamW", 0, 0.99999, KF_OPT_SHAPES },
	{ "beta2", KF_OPT_REAL, &o.beta2, "X", "AdamW", 0, 0.9999999, KF_OPT_SHAPES },
	{ "clip", KF_OPT_REAL, &o.clip, "X", "largest norm of the gradient, 0 for any", 0, 1e9, KF_OPT_SHAPES },
	{ "batch-tokens", KF_OPT_INT, &o.batch_tokens, "N", "tokens a step of the optimizer", 1, 1e9, KF_OPT_SHAPES },
	{ "micro-tokens", KF_OPT_INT, &o.micro_tokens, "N", "tokens at a time: less memory, less speed; 0: 512 on the CPU, 8192 on CUDA",
		0, 1e7, KF_OPT_SHAPES },
	{ "moments", KF_OPT_CHOICE, &o.moments8, "f32|8bit", "AdamW's moments: 8 bytes a parameter, or 2 and a little noise", 0, 0, KF_OPT_SHAPES },
	{ "compute", KF_OPT_CHOICE, &compute, "auto|f32|bf16", "matrix products in float32, or in bfloat16 with float32 sums; "
		"auto is f32 on the CPU, bf16 on CUDA",
		0, 0, KF_OPT_SHAPES },
	{ "context", KF_OPT_INT, &o.context, "N", "cut longer sequences here, 0 for the model's context", 0, 1e7, KF_OPT_SHAPES },
	{ "keep-mb", KF_OPT_INT, &o.keep_mb, "MB", "memory for activations; layers beyond it are computed twice; 0 for any; -1: 512, or what is free "
		"on CUDA", -1, 1e9, 0 },
	{ "epochs", KF_OPT_INT, &o.epochs, "N", "times over the documents", 1, 1e6, KF_OPT_SHAPES },
	{ "patience", KF_OPT_INT, &o.patience, "N", "end when N epochs in a row have not predicted the validation text better; 0: never", 0, 1e6,
		KF_OPT_SHAPES | KF_OPT_OFF },
	{ "max-steps", KF_OPT_INT, &o.max_steps, "N", "end after so many steps, 0 for all", 0, 1e12, KF_OPT_SHAPES },
	{ "save-every", KF_OPT_INT, &o.save_every, "N", "steps from one checkpoint to the next, 0 for none", 0, 1e12, 0 },
	{ "dtype", KF_OPT_CHOICE, &o.dtype, "f32|bf16|f16", "numbers of the model that is written", 0, 0, KF_OPT_SHAPES },
	{ "keep-epochs", KF_OPT_FLAG, &o.keep_epochs, NULL, "write the model of every epoch too, as OUT/epoch-N", 0, 0, 0 },
	{ "keep-state", KF_OPT_FLAG, &o.keep_state, NULL, "leave the last checkpoints (--save-every) in OUT/state", 0, 0, 0 },
	{ "resume", KF_OPT_FLAG, &o.resume, NULL, "continue, as a run does by itself; having nothing to continue is an error", 0, 0, 0 },
	{ "restart", KF_OPT_FLAG, &o.restart, NULL, "begin anew, replacing a run that is in OUT, the same or another", 0, 0, 0 },
	KF_OPT_REPLACE(&o.replace),
	{ "log", KF_OPT_STRING, &o.log, "FILE", "log, a JSON object a line (OUT/log.jsonl)", 0, 0, 0 },
	KF_OPT_BACKEND(&common),
	KF_OPT_COMMON(&common),
	{ 0 }
};

static const kf_program PROGRAM = {
	.name = "kf-train",
	.summary = "train a model on fused targets",
	.usage = "--model PATH --targets DIR --out DIR [options]",
	.notes = "Several processes train one model: mpirun -n 4 --bind-to none kf-train ..., or srun -n 4 kf-train ... (built with make MPI=1).\n"
		"They compute what one would, each a share of every step's documents; N processes continue what M began.\n\n"
		"The loss is lambda * CLM + (1 - lambda) * fusion; --lambda 1 is plain language modelling on the same tokens and\n"
		"steps. A run that was stopped continues from its last checkpoint when the same command is given again.",
	.opts = TABLE,
	.stops = true,
};

/* A run may have been told to keep its epochs' models when some had gone by. */
static void look_at_epochs(void)
{
	int missing, n;

	if (!o.keep_epochs || ((n = kf_output_epochs(o.out, &missing)) && !missing))
		return;
	if (n)
		fprintf(stderr, "kf-train: notice: the models of %d of the run's epochs were not kept", missing);
	else
		fprintf(stderr, "kf-train: notice: the run kept no epoch's model");
	fprintf(stderr, "; --restart trains anew and keeps them\n");
}

static void report(const kf_train_result *r)
{
	if (r->current) {
		printf("%s is up to date.\n", o.out);
	} else if (!r->steps) {
		printf("%s: training had ended; its model is in place now.\n", o.out);
	} else {
		printf("%s: %lld steps, %lld tokens", o.out, (long long)r->steps, (long long)r->tokens);
		if (r->resumed)
			printf(", gone on from step %lld", (long long)r->resumed);
		if (isfinite(r->valid))
			printf("; epoch %d is the best, %.4f bits per byte of validation text.\n", r->epoch, r->valid);
		else
			printf(", loss %.4f.\n", r->loss);
		if (r->valid > r->before)
			fprintf(stderr, "kf-train: the model as it came has %.4f bits per byte of that text: training has made it worse\n", r->before);
	}
	look_at_epochs();
}

static kf_status prepare(kf_pool **pool, kf_exec **x, kf_err *err)
{
	const kf_ops *ops;
	kf_status rc;

	if ((rc = kf_backend(common.backend, &ops, &compute, err)) != KF_OK)
		return rc;
	if ((rc = kf_parse_part("fold", fold, &o.fold, &o.folds, err)) != KF_OK)
		return rc;
	if (fold && o.folds < 2)
		return kf_fail(err, KF_EUSAGE, "--fold %s leaves out every document; N must be 2 or more", fold);
	if (o.log && strcmp(o.log, "-") == 0)
		return kf_fail(err, KF_EUSAGE, "--log -: the log has to be a file, which a run that goes on cuts back to its checkpoint");
	if (o.patience && !o.valid)
		return kf_fail(err, KF_EUSAGE, "--patience waits for the validation text, and there is none: give --valid");
	if (!o.micro_tokens)
		o.micro_tokens = ops == &kf_ops_cpu ? 512 : 8192;
	o.seed = common.seed;
	o.ranks = ranks;
	if (!kf_ranks_first(ranks))
		common.quiet = true;
	o.progress = common.quiet ? KF_PROGRESS_NONE : common.progress;
	if (!(o.record = kf_opt_record(&PROGRAM)) || json_object_set_new(o.record, "seed", json_integer(o.seed)) != 0 ||
	    (fold && json_object_set_new(o.record, "fold", json_sprintf("%s by id", fold)) != 0))
		return kf_fail(err, KF_ENOMEM, "no memory for the options");
	if ((rc = kf_pool_new(common.threads || !ranks ? (int)common.threads : ranks->threads, pool, err)) != KF_OK)
		return rc;
	return kf_exec_new_on(ops, *pool, (kf_compute)compute, ranks ? ranks->local : 0, x, err);
}

/* The fingerprint of the corpus that a set is, or is of; false where there is none to be had, of which kf_train says why. */
static bool corpus_of(const char *dir, kf_fp *out)
{
	kf_set *set = NULL;
	kf_err ignored;
	bool known = kf_set_open(dir, KF_SET_KINDS, &set, &ignored) == KF_OK;

	if (known && kf_set_get_kind(set) == KF_SET_CORPUS)
		*out = kf_set_fp(set);
	else
		known = known && kf_set_input_fp(set, "corpus", out, &ignored) == KF_OK;
	kf_set_close(set);
	return known;
}

static void look_at_valid(void)
{
	kf_fp trained, valid;

	if (o.valid && !common.quiet && corpus_of(o.targets, &trained) && corpus_of(o.valid, &valid) && kf_fp_equal(trained, valid))
		fprintf(stderr, "kf-train: notice: %s is the text that is trained on: the best epoch by it is the one that knows it by heart. "
			"Validate with text that is not among the training text (kf-prepare --split).\n", o.valid);
}

static kf_status work(kf_err *err)
{
	kf_train_result r;
	kf_pool *pool = NULL;
	kf_exec *x = NULL;
	kf_status rc = kf_ranks_agree(ranks, prepare(&pool, &x, err), err);

	if (rc == KF_OK)
		look_at_valid();
	if (rc == KF_OK && (rc = kf_train(&o, x, &r, err)) == KF_OK && !common.quiet)
		report(&r);
	kf_exec_free(x);
	kf_pool_free(pool);
	json_decref(o.record);
	return rc;
}

static kf_status run(const kf_list *operands, kf_err *err)
{
	kf_status rc;
	bool speaks;

	(void)operands;
	if ((rc = kf_ranks_open(&ranks, err)) != KF_OK)
		return rc;
	rc = work(err);
	speaks = kf_ranks_speaks(ranks);
	if (rc != KF_OK && speaks)
		kf_main_says(&PROGRAM, rc, err);   /* mpirun kills who is left when the first of those with nothing to say has ended */
	kf_ranks_close(ranks);
	if (rc == KF_OK || speaks)
		return rc;
	return KF_EELSEWHERE;
}

int main(int argc, char **argv)
{
	return kf_main(&PROGRAM, argc, argv, run);
}
