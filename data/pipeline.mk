# The pipeline as make sees it. Every set, model and report is a target with its true dependencies, in a folder
# named after what it depends on, so that whatever did not change is reused:
#
#   text -> corpus/SPLIT -> logits/SPLIT/MODEL -> aligned/SPLIT/SOURCE -> targets/MIX -> train/MIX -> merged/METHOD
#                                                                    report/… from logits/test and the models, and a page
#
# What is of one target, from aligned on, is in for-TARGET/.
#
# What to make of these is in data/demo.mk.

TARGET  ?= smollm2-135m
SOURCES ?= gemma3-270m qwen2.5-coder-0.5b
DOMAINS ?= prose docs python c
# Where models and text are, and where the pipeline works. (Clusters have a WORK in the environment that is all of a user's: not that one.)
DATA    ?= data
ifeq ($(origin WORK),environment)
WORK := $(if $(KFUSE_MK),work,work/demo)
endif
WORK    ?= work/demo
# What the command line gave (make fusechat-demo has defaults of its own, and so have kf-slurm's threads).
given := $(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $v)),$v))
# What came from the environment may be meant for others, and is no reason not to build.
inherited := $(foreach v,$(.VARIABLES),$(if $(filter environment,$(origin $v)),$v))

# Documents a domain, and their size; the seed of which ones.
DOCS       ?= 8
VALID_DOCS ?= 3
TEST_DOCS  ?= 8
DOC_BYTES  ?= 2048
SEED       ?= 1
# Bad records are left out if they are at most so many per cent.
SKIP_BAD   ?= 0

# Parts of every set. Of a cluster's jobs for a set each does some (kf-slurm, docs/cluster.md): as many jobs as parts, unless PARTS says fewer.
SHARDS ?= 2
PARTS  ?= $(SHARDS)
# In a job of kf-slurm the part is known only to the job; what wants the whole set ($(call whole,…)) is left to the last one.
shard = $(if $(KF_SLURM),$${KF_PART:+--shard $$KF_PART/$(PARTS)})
whole = $(if $(KF_SLURM),$${KF_WHOLE:+$1},$1)

# How matrix products are computed when predictions are extracted; what starts kf-train on several processes (mpirun, srun).
EXTRACT_COMPUTE ?= auto
TRAIN_RUN ?=

# Alignment, fusion and training. Each method keeps the epoch that predicts the validation text best.
# What these make goes by their names; another choice of text wants another WORK.
ALIGN     ?= byte
VOCAB_MAP ?= $(if $(filter byte,$(ALIGN)),prefix,exact)
ONE_TO_MANY ?= last
FUNCTION  ?= dynamic
LEVEL     ?= sequence
WEIGHT    ?= none
# What is outside the candidates: calibrated, rest, or, as the papers have it, in fusion and training, renormalize.
TAIL      ?= calibrated
# Epochs that each source is first trained on the text itself, 0: none. There are FOLDS models of it then, each of which predicts the documents
# that it has not seen; what a source says of validation and test text is not changed.
ADAPT     ?= 0
ADAPT_LR  ?= 1e-5
ADAPT_BATCH ?= 512
FOLDS     ?= 2
# Texts that GENERATOR makes of each training passage, going on from some words of it, of at most so many tokens; what is fused is these as well. 0: none.
GENERATE  ?= 0
GENERATE_TOKENS ?= 256
GENERATOR ?= $(lastword $(sort $(SOURCES)))
LAMBDA    ?= 0.5
EPOCHS    ?= 3
LR        ?= 1e-4
BATCH     ?= 2048
# Epochs in a row that may be no better before training ends; 0: any.
PATIENCE  ?= 0
COMPUTE   ?= auto
THREADS   ?= 0

comma := ,
empty :=
space := $(empty) $(empty)
plus = $(subst $(space),+,$(sort $1))
home = $(patsubst ~/%,$(HOME)/%,$1)

# One word each, without the blanks that a Makefile has before a comment: they are in names.
$(foreach v,TARGET DATA WORK DOCS VALID_DOCS TEST_DOCS DOC_BYTES SEED SKIP_BAD SHARDS PARTS EXTRACT_COMPUTE ALIGN VOCAB_MAP ONE_TO_MANY FUNCTION LEVEL WEIGHT \
  TAIL ADAPT ADAPT_LR ADAPT_BATCH FOLDS GENERATE GENERATE_TOKENS GENERATOR LAMBDA EPOCHS LR BATCH PATIENCE COMPUTE THREADS ADD KD ENSEMBLE DENSITY SELECT TASK_LIMIT \
  $(filter CHAT_TEMPLATE_%,$(.VARIABLES)),$(if $(filter undefined,$(origin $v)),,$(if $(word 2,$($v)),$(error $v=$($v): must be one word; make cannot do \
  with spaces in names))$(eval override $v := $$(call home,$$(strip $$($v))))))

# Names of models are in names of files and options, and joined by + (plus).
$(foreach v,$(filter-out $(inherited),TARGET SOURCES ADD $(if $(filter-out 0,$(GENERATE)),GENERATOR)),$(foreach m,$($v),$(foreach c,+ / : = % $(comma),$(if $(findstring $c,$m),$(error $v: $m: a model's name must not have a $c, \
  which has a meaning in names and options: give it another in $(DATA)/models)))))

# What a program refuses hours later, when its turn comes. A variable, what it may be
one_of = $(if $(filter-out $2,$(if $(filter $1,$(inherited)),,$($1))),$(error $1=$($1): must be $(if $(word 2,$($1)),some,one) of $2))
$(call one_of,ALIGN,byte dtw dtw-chat)
$(call one_of,VOCAB_MAP,prefix exact mined stats)
$(call one_of,ONE_TO_MANY,last weighted)
$(call one_of,FUNCTION,min-ce avg-ce domain dynamic document)
$(call one_of,LEVEL,sequence token)
$(call one_of,WEIGHT,none advantage advantage-domain advantage-position)
$(call one_of,TAIL,calibrated rest renormalize)
$(call one_of,COMPUTE,auto f32 bf16)
$(call one_of,EXTRACT_COMPUTE,auto f32 bf16 int8)
$(if $(and $(filter token,$(LEVEL)),$(filter-out min-ce avg-ce,$(FUNCTION)),$(if $(filter LEVEL FUNCTION,$(inherited)),,1)),$(error LEVEL=token is for FUNCTION=min-ce and avg-ce: $(FUNCTION) has other weights))
$(if $(and $(filter-out dtw-chat,$(ALIGN)),$(filter weighted,$(ONE_TO_MANY))),$(error ONE_TO_MANY=weighted is for ALIGN=dtw-chat: nothing else takes several of a source's tokens for one))
$(if $(and $(filter-out 0,$(ADAPT)),$(filter stats weighted,$(VOCAB_MAP) $(ONE_TO_MANY))),$(error ADAPT=$(ADAPT) does not go with VOCAB_MAP=stats or \
  ONE_TO_MANY=weighted, which count in a source's whole text: its folds are several models))
$(if $(and $(filter-out 0,$(ADAPT)),$(filter-out 0,$(GENERATE))),$(error ADAPT=$(ADAPT) does not go with GENERATE=$(GENERATE): a fold's model has seen the words that texts begin with))

$(if $(filter $(TARGET),$(SOURCES) $(ADD)),$(error TARGET=$(TARGET) is one of the sources, too: it takes part by itself))

run := $(WORK)/docs$(DOCS)
said_tag := $(addprefix -,$(filter-out auto,$(EXTRACT_COMPUTE)))
of := $(run)/for-$(TARGET)$(said_tag)
bin := $(or $(KFUSE_BIN),$B/bin)

# A model is $(DATA)/models/NAME.gguf, or a folder $(DATA)/models/NAME; and what there is of it to be newer than something.
model = $(if $(wildcard $(DATA)/models/$1/config.json),$(DATA)/models/$1,$(DATA)/models/$1.gguf)
model_files = $(if $(wildcard $(DATA)/models/$1/config.json),$(wildcard $(addprefix $(DATA)/models/$1/,*.json *.safetensors *.bin *.model)),$(call model,$1))

text := $(or $(foreach t,$(call home,$(TEXT)),$(or $(wildcard $t),$t)),$(DOMAINS:%=$(DATA)/text/%.jsonl))

# Tasks that reports are to include, by name (data/fetch.sh list), or files $(DATA)/tasks/NAME.jsonl of your own. What items share
# with the training text is counted. TASK_LIMIT: that many items of each only. Templates that are named for models shape what these answer: they are
# in the report's name.
TASKS ?=
TASK_LIMIT ?=
task_file = $(DATA)/tasks/$1$(if $(filter bigbench-%,$1),.json,.jsonl)
task_files = $(foreach t,$(TASKS),$(call task_file,$t))
task_tag = $(if $(TASKS),-$(call plus,$(TASKS))$(addprefix -,$(TASK_LIMIT))$(subst $(space),,$(foreach m,$(models),$(addprefix -$m@,$(CHAT_TEMPLATE_$m)))))
task_limit = $(if $(TASKS),$(addprefix --limit ,$(TASK_LIMIT)))
task_options = $(addprefix --tasks ,$(task_files)) $(task_limit) --overlap $(run)/corpus/$(learnt)
fetch_task ?= bash data/fetch.sh task $1 $2
$(DATA)/tasks/%.jsonl: | $(DEPS_STAMP)
	@$(call fetch_task,$*,$@)
$(DATA)/tasks/%.json: | $(DEPS_STAMP)
	@$(call fetch_task,$*,$@)
.PRECIOUS: $(DATA)/tasks/%.jsonl $(DATA)/tasks/%.json

# Every model that a run may need; ADD is the source of `make continual`.
models := $(sort $(TARGET) $(SOURCES) $(ADD))
splits := train valid test
# What targets are made of: the training text, or that and what is generated.
learnt := train$(if $(filter-out 0,$(GENERATE)),-$(GENERATOR)x$(GENERATE)$(addprefix t,$(filter-out 256,$(GENERATE_TOKENS))))
learnt_tag := $(learnt:train%=%)
sets := $(splits) $(if $(learnt_tag),$(learnt))

# What is there keeps what it was made from. Where that is not what is asked for any more (a model or a text replaced under its name, another
# SEED), programs refuse and say what differs; with REPLACE=1 every one is asked, and makes that anew (--replace); what is the same stays, and
# what is begun goes on.
REPLACE ?=
anew := $(if $(filter 1,$(REPLACE)),$(if $(KF_SLURM),,1))
replace := $(if $(anew),--replace)
asked := $(if $(anew),FORCE)
FORCE:
# FORCE where something came to be at or in these paths, or a link to it, since a file was made: by the time of its change, which no copy and no
# move brings along, as they may that of its content.
changed = $(if $(and $(strip $1),$(wildcard $2)),$(if $(shell { find -P $1 -maxdepth 0 -newercm $2 -print -quit; find -H $1 -newercm $2 -print -quit; \
  find -L $1 -newercm $2 -print -quit; } 2>/dev/null),FORCE))

# ---- corpus: no file is in two splits ----

split_docs = $(if $(filter train,$1),$(DOCS),$(if $(filter valid,$1),$(VALID_DOCS),$(TEST_DOCS)))
# FORCE where the corpus that is there was cut otherwise, or of other text.
manifest = $(subst $(space),,$(strip $(file <$1)))
cut_so = "doc-bytes":$(DOC_BYTES)$(comma) "docs-per-domain":$(call split_docs,$1)$(if $(filter-out 0,$(call split_docs,$1)),$(comma)"seed":$(SEED))} $(text:%="name":"%"$(comma))
recut = $(call other_cut,$(call manifest,$(run)/corpus/$1/manifest.json),$(call cut_so,$1)) $(call changed,$(text),$(run)/corpus/$1/manifest.json)
other_cut = $(if $1,$(if $(filter-out $(words $(text)),$(words $(filter {"role":"text"%,$(subst {, {,$1)))),FORCE)$(foreach f,$2,$(if $(findstring $f,$1),,FORCE)))
define corpus_rule
$(run)/corpus/$1/manifest.json: $(text) $(sort $(call recut,$1) $(asked)) | $(bin)/kf-prepare
	$(bin)/kf-prepare --out $$(@D) $(replace) --split $1 --docs-per-domain $(call split_docs,$1) \
	  --doc-bytes $(DOC_BYTES) --seed $(SEED) $(addprefix --skip-bad ,$(filter-out 0,$(SKIP_BAD))) --shards $(SHARDS) $(text)
endef
$(foreach s,$(splits),$(eval $(call corpus_rule,$s)))
define generated_rule
$(run)/corpus/$(learnt)/manifest.json: $(call model_files,$(GENERATOR)) $(run)/corpus/train/manifest.json \
    $(sort $(call changed,$(call model,$(GENERATOR)),$(run)/corpus/$(learnt)/manifest.json) $(asked)) | $(bin)/kf-generate
	$(bin)/kf-generate --model $(call model,$(GENERATOR)) --corpus $(run)/corpus/train --out $$(@D) $(replace) --texts $(GENERATE) --tokens $(GENERATE_TOKENS) \
	  --seed $(SEED) --threads $$(THREADS) $$(shard) $(addprefix --chat-template ,$(CHAT_TEMPLATE_$(GENERATOR)))
endef
$(if $(learnt_tag),$(eval $(generated_rule)))

# ---- logits: every model over the training text, over the test text to be compared, over the validation text
# where weights are fitted to it ----

# Beside every set, as NAME.from: the model that kf-extract was given, by its path, and the template that was named for it. FORCE where that is another
# (another DATA, a folder instead of a file): kf-extract says what differs. A template is of conversations (format 2).
$(foreach s,$(sets),$(eval talks_$s := $(findstring "format":2,$(call manifest,$(run)/corpus/$s/manifest.json))))
from = $(strip $(call model,$2) $(if $(talks_$1),$(CHAT_TEMPLATE_$2)))
was_from = $(if $(talks_$1),$2,$(firstword $2))
other_from = $(if $(filter-out $1,$2)$(filter-out $2,$1),FORCE)
# All of the text is there before any model runs: that a split of it is empty is no news for later. (Jobs need what they read, and so do goals that
# are one model or set.)
corpora := $(if $(or $(KF_SLURM),$(if $(filter-out train-fused train-clm train-kd ensemble stage-aligned stage-targets $(if $(KFUSE_MK),,align train),$(or $(MAKECMDGOALS),all)),,1)),,$(splits:%=$(run)/corpus/%/manifest.json))
define logits_rule
$(run)/logits/$1/$2$(said_tag)/manifest.json: $(call model_files,$2) $(run)/corpus/$1/manifest.json \
    $(sort $(call other_from,$(call from,$1,$2),$(call was_from,$1,$(file <$(run)/logits/$1/$2$(said_tag).from))) \
    $(call changed,$(call model,$2),$(run)/logits/$1/$2$(said_tag)/manifest.json) $(asked)) | $(bin)/kf-extract $(corpora)
	$(bin)/kf-extract --model $(call model,$2) --corpus $(run)/corpus/$1 --out $$(@D) $(replace) --compute $(EXTRACT_COMPUTE) --threads $$(THREADS) $$(shard) \
		$(if $(CHAT_TEMPLATE_$2),--chat-template $(CHAT_TEMPLATE_$2))
	@echo $(call model,$2) $(CHAT_TEMPLATE_$2) > $$(@D).from
endef
$(foreach s,$(sets),$(foreach m,$(models),$(eval $(call logits_rule,$s,$m))))
logits = $(run)/logits/$1/$(TARGET)$(said_tag)

# ---- adapted: a source's models for the folds of the training text, and what each says of its own. Fold, model ----

$(if $(filter-out 0,$(ADAPT)),$(if $(filter 2 3 4 5 6 7 8 9 10,$(FOLDS)),,$(error FOLDS=$(FOLDS): must be a number from 2 to 10)))
folds := $(if $(filter-out 0,$(ADAPT)),$(wordlist 1,$(FOLDS),0 1 2 3 4 5 6 7 8 9))
adaptation := lr$(ADAPT_LR)x$(ADAPT)b$(ADAPT_BATCH)of$(FOLDS)$(addprefix -seed,$(filter-out 1,$(SEED)))$(addprefix -,$(filter-out auto,$(COMPUTE)))
adapt_tag := $(if $(folds),-adapted-$(adaptation))
adapted = $(run)/adapted/$(adaptation)-fold$1/$2$(said_tag)
define adapted_rules
.PRECIOUS: $(call adapted,$1,$2)/config.json
$(call adapted,$1,$2)/config.json: $(call model_files,$2) $(run)/logits/train/$2$(said_tag)/manifest.json $(run)/corpus/valid/manifest.json \
    $(sort $(call changed,$(call model,$2),$(call adapted,$1,$2)/config.json) $(asked)) | $(bin)/kf-train
	$(bin)/kf-train --model $(call model,$2) --targets $(run)/logits/train/$2$(said_tag) --valid $(run)/corpus/valid --out $$(@D) $(replace) --fold $1/$(FOLDS) --lambda 1 \
	  --epochs $(ADAPT) --lr $(ADAPT_LR) --batch-tokens $(ADAPT_BATCH) --seed $(SEED) --compute $(COMPUTE) --dtype bf16 --threads $$(THREADS)
$(run)/logits/train/$2$(said_tag)$(adapt_tag)-fold$1/manifest.json: $(call adapted,$1,$2)/config.json $(run)/corpus/train/manifest.json $(asked) | $(bin)/kf-extract
	$(bin)/kf-extract --model $(call adapted,$1,$2) --corpus $(run)/corpus/train --out $$(@D) $(replace) --fold $1/$(FOLDS) --compute $(EXTRACT_COMPUTE) \
	  --threads $$(THREADS) $$(shard) $(if $(CHAT_TEMPLATE_$2),--chat-template $(CHAT_TEMPLATE_$2))
endef
$(foreach m,$(filter-out $(TARGET),$(models)),$(foreach f,$(folds),$(eval $(call adapted_rules,$f,$m))))
# The sets of a source over a split: one, or one a fold.
said = $(if $(and $(filter train,$1),$(folds)),$(folds:%=$(run)/logits/train/$2$(said_tag)$(adapt_tag)-fold%),$(run)/logits/$1/$2$(said_tag))

# ---- aligned: a source's predictions in the target's vocabulary ----

align_tag := $(if $(filter byte-prefix,$(ALIGN)-$(VOCAB_MAP)),,-$(ALIGN)-$(VOCAB_MAP))$(addprefix -,$(filter-out last,$(ONE_TO_MANY)))
aligned = $(of)/aligned/$1/$2$(align_tag)$(if $(filter train,$1),$(adapt_tag))
# A map by edit distance is of two tokenizers, one of counted pairs of a text as well.
map_file = $(strip $(if $(filter mined,$(VOCAB_MAP)),$(WORK)/maps/$2-$(TARGET)-mined.map) \
  $(if $(filter stats,$(VOCAB_MAP)),$(run)/maps/$1-$2-$(TARGET)-stats.map))
define aligned_rule
$(call aligned,$1,$2)/manifest.json: $(addsuffix /manifest.json,$(call said,$1,$2)) $(call logits,$1)/manifest.json $(asked) | $(bin)/kf-align
	$(if $(call map_file,$1,$2),@mkdir -p $(dir $(call map_file,$1,$2)))
	$(bin)/kf-align $(addprefix --source ,$(call said,$1,$2)) --target $(call logits,$1) --out $$(@D) $(replace) \
	  --method $(ALIGN) --vocab-map $(VOCAB_MAP) --one-to-many $(ONE_TO_MANY) $(addprefix --map ,$(call map_file,$1,$2)) --threads $$(THREADS) $$(shard)
endef
$(foreach s,$(sets),$(foreach m,$(filter-out $(TARGET),$(models)),$(eval $(call aligned_rule,$s,$m))))

# ---- weights by domain, fitted to validation text. Sources ----

weights = $(of)/weights/$(call plus,$1)$(align_tag).json
define weights_rule
$(call weights,$1): $(foreach m,$1,$(call aligned,valid,$m)/manifest.json) $(call logits,valid)/manifest.json | $(bin)/kf-fuse
	@mkdir -p $$(@D)
	$(bin)/kf-fuse --target $(call logits,valid) $(foreach m,$1,--aligned $(call aligned,valid,$m)) --fit $$@ --threads $$(THREADS)
endef

# ---- targets: what to train on, and a trace of some documents. NAME, split, sources, options, a file of weights ----

# FORCE where the trace is missing. (Of targets made together, a: b &: …, make -n of GNU make 4.3 forgets what depends on them.)
define fuse_rule
$(of)/targets/$1/manifest.json: $(foreach m,$3,$(call aligned,$2,$m)/manifest.json) $(call logits,$2)/manifest.json $5 \
    $(if $(wildcard $(of)/trace/$1.jsonl),$(asked),FORCE) | $(bin)/kf-fuse
	@mkdir -p $(of)/trace
	$(bin)/kf-fuse --target $(call logits,$2) $(foreach m,$3,--aligned $(call aligned,$2,$m)) --out $(of)/targets/$1 $(replace) \
	  $4 $(addprefix --weights ,$5) $$(call whole,--trace $(of)/trace/$1.jsonl) --threads $$(THREADS) $$(shard)
endef

# ---- training. NAME, set to train on, lambda, model to start from, what that depends on ----

schedule := lr$(LR)x$(EPOCHS)$(addprefix p,$(filter-out 0,$(PATIENCE)))$(addprefix -b,$(filter-out 2048,$(BATCH)))$(addprefix -seed,$(filter-out 1,$(SEED)))$(addprefix -,$(filter-out auto,$(COMPUTE)))
# Lambda. Where it is 1 nothing is taken from candidates, and what is outside them is no part of the run: every TAIL has the same CLM.
train_tail = $(if $(filter 1,$1),,$(if $(filter renormalize,$(TAIL)),--tail renormalize ))
training = --epochs $(EPOCHS) $(addprefix --patience ,$(filter-out 0,$(PATIENCE))) --lr $(LR) --batch-tokens $(BATCH) --seed $(SEED) --compute $(COMPUTE) --threads $(THREADS)
# A program that is killed leaves a config.json only beside a whole model: make must not take it away, as it does what a killed recipe wrote.
define train_rule
.PRECIOUS: $(of)/train/$1/config.json
$(of)/train/$1/config.json: $2/manifest.json $5 $(run)/corpus/valid/manifest.json $(sort $(call changed,$4,$(of)/train/$1/config.json) $(asked)) | $(bin)/kf-train
	$(strip $(TRAIN_RUN) $(bin)/kf-train) --model $4 --targets $2 --valid $(run)/corpus/valid --out $$(@D) $(replace) --lambda $3 $(call train_tail,$3)$$(training)
endef

# Which template a model that is run renders conversations and questions with: a source its own, what comes of the target the target's. Questions are asked
# of all in one way: where a template is named for some model, the others use the one they came with.
# Names (asked_with), "--model NAME=PATH …" (templates)
template_of = $(CHAT_TEMPLATE_$(if $(filter $1,$(filter-out $(TARGET),$(models))),$1,$(TARGET)))
asked_with = $(foreach m,$1,$(addprefix --chat-template $m=,$(or $(call template_of,$m),$(if $(strip $(foreach n,$1,$(call template_of,$n))),own))))
run_here = $(foreach m,$(patsubst --model:%,%,$(filter --model:%,$(subst --model ,--model:,$1))),$(firstword $(subst =, ,$m)))
templates = $(if $(TASKS),$(call asked_with,$(call run_here,$1)),$(foreach m,$(call run_here,$1),$(addprefix --chat-template $m=,$(call template_of,$m))))

# ---- evaluation on held-out text. Report, models, arguments, what these depend on. Models that are run here are the target, trained ----

# FORCE where the report is of other files of tasks than these, or one of them is new in its place. Its text, its path
other_tasks = $(foreach f,$(task_files),$(if $(findstring "$f",$1),,FORCE)) $(call changed,$(task_files),$2)
define report_rule
$(of)/report/$1.json: $(2:%=$(run)/logits/test/%$(said_tag)/manifest.json) $4 $(task_files) $(run)/corpus/$(learnt)/manifest.json \
    $(if $(TASKS),$(sort $(call other_tasks,$(file <$(of)/report/$1.json),$(of)/report/$1.json))) | $(bin)/kf-eval
	@mkdir -p $$(@D)
	$(bin)/kf-eval --corpus $(run)/corpus/test $3 $(task_options) $(call templates,$3) --scores $(WORK)/scores --markdown $$(@:.json=.md) --report $$@.tmp --threads $$(THREADS) > $$(@:.json=.txt)
	@mv $$@.tmp $$@
endef

# The same as a page, with what the models were made from. kf-report knows the row "target" by its set's folder, if that is called like the model, or
# by the set itself. Report, result (none: as compared), NAME=DIR of trained and merged models, names in targets/, sources
define page_rule
$(of)/report/$1.html: $(of)/report/$1.json $(4:%=$(of)/targets/%/manifest.json) | $(bin)/kf-report
	$(bin)/kf-report --out $$@ --eval $$< $(addprefix --result ,$2) $(addprefix --model ,$3) $(sets:%=--set $(run)/corpus/%) \
	  $(foreach m,$(TARGET) $5,--set $(run)/logits/$(learnt)/$m$(said_tag)) $(foreach m,$5,--set $(call aligned,$(learnt),$m)) \
	  $(if $(said_tag),--set $(call logits,test)) $(4:%=--set $(of)/targets/%) $(4:%=--trace $(of)/trace/%.jsonl) --quiet
endef

# The rows of models as they come: the sources, and the target as "target". Tasks are not of the text: for these the models are run.
as_they_come = $(foreach s,$(sort $1),--logits $s=$(run)/logits/test/$s$(said_tag)) --logits target=$(call logits,test) \
  $(if $(TASKS),$(foreach s,$(sort $1),--model $s=$(call model,$s)) --model target=$(call model,$(TARGET)))

# ---- merging. METHOD, name of the result, names in train/ of what is merged ----

DENSITY ?= 0.5
SELECT  ?= 0.1
merge_options = $(if $(filter ties dare dare-ties,$1),--density $(DENSITY))$(if $(filter sce,$1),--select $(SELECT)) \
  $(if $(filter linear slerp,$1),,--pivot $(call model,$(TARGET)))
define merge_rule
.PRECIOUS: $(of)/merged/$2/config.json
$(of)/merged/$2/config.json: $(3:%=$(of)/train/%/config.json) $(call model_files,$(TARGET)) \
    $(sort $(call changed,$(call model,$(TARGET)),$(of)/merged/$2/config.json) $(asked)) | $(bin)/kf-merge
	$(bin)/kf-merge --method $1 $(strip $(call merge_options,$1)) $(3:%=--models $(of)/train/%) --out $$(@D) $(replace) \
	  --seed $(SEED) --threads $$(THREADS)
endef
