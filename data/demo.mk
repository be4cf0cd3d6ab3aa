# The pipeline as make sees it, and the demo that runs it on real models and text.
#
#   make demo                              everything, from nothing
#   make demo DOCS=50                      more text
#   make demo SOURCES=gemma3-270m          another choice of sources: what does not depend on it is reused
#   make -n demo SOURCES=…                 what would run
#
# Every set is a target with its true dependencies, in a folder named after what it depends on:
#
#   text -> corpus/SPLIT -> logits/SPLIT/MODEL -> aligned/SOURCE -> targets/MIX -> train/… -> report

TARGET  ?= smollm2-135m
SOURCES ?= gemma3-270m qwen2.5-coder-0.5b
DOMAINS ?= prose docs python c
# Where models and text are, and where the pipeline works.
DATA    ?= data
WORK    ?= work/demo

# Documents a domain, and their size; the seed of which ones.
DOCS       ?= 8
VALID_DOCS ?= 3
TEST_DOCS  ?= 8
DOC_BYTES  ?= 2048
SEED       ?= 1

# Fusion and training. Each method keeps the epoch that predicts the validation text best.
# What these make goes by their names; another choice of text wants another WORK.
FUNCTION ?= min-ce
LEVEL    ?= sequence
WEIGHT   ?= advantage
LAMBDA   ?= 0.5
EPOCHS   ?= 3
LR       ?= 1e-4
BATCH    ?= 2048
THREADS  ?= 0

empty :=
space := $(empty) $(empty)
mix := $(subst $(space),+,$(sort $(SOURCES)))
run := $(WORK)/docs$(DOCS)
bin := $B/bin

# A model is $(DATA)/models/NAME.gguf, fetched when it is one of the demo's, or a folder $(DATA)/models/NAME.
model = $(if $(wildcard $(DATA)/models/$1/config.json),$(DATA)/models/$1,$(DATA)/models/$1.gguf)
$(DATA)/models/%.gguf:
	@bash data/fetch.sh model $* $@

$(DATA)/text/%.jsonl:
	@bash data/fetch.sh text $* $@
.PRECIOUS: $(DATA)/models/%.gguf $(DATA)/text/%.jsonl

text := $(DOMAINS:%=$(DATA)/text/%.jsonl)

# ---- corpus: SPLIT in train, valid, test; no file is in two of them ----

split_docs = $(if $(filter train,$1),$(DOCS),$(if $(filter valid,$1),$(VALID_DOCS),$(TEST_DOCS)))
define corpus_rule
$(run)/corpus/$1/manifest.json: $(text) | $(bin)/kf-prepare
	$(bin)/kf-prepare --out $$(@D) --split $1 --docs-per-domain $(call split_docs,$1) \
	  --doc-bytes $(DOC_BYTES) --seed $(SEED) --shards 2 $(text)
endef
$(foreach s,train valid test,$(eval $(call corpus_rule,$s)))

# ---- logits: every model over the training text, and over the test text to be compared ----

define logits_rule
$(run)/logits/$1/$2/manifest.json: $(call model,$2) $(run)/corpus/$1/manifest.json | $(bin)/kf-extract
	$(bin)/kf-extract --model $$< --corpus $(run)/corpus/$1 --out $$(@D) --threads $(THREADS)
endef
$(foreach s,train test,$(foreach m,$(sort $(TARGET) $(SOURCES)),$(eval $(call logits_rule,$s,$m))))

# ---- aligned: a source's predictions in the target's vocabulary ----

target_logits := $(run)/logits/train/$(TARGET)
define aligned_rule
$(run)/aligned/$1/manifest.json: $(run)/logits/train/$1/manifest.json $(target_logits)/manifest.json | $(bin)/kf-align
	$(bin)/kf-align --source $(run)/logits/train/$1 --target $(target_logits) --out $$(@D) --threads $(THREADS)
endef
$(foreach s,$(SOURCES),$(eval $(call aligned_rule,$s)))

# ---- targets: what to train on ----

aligned := $(sort $(SOURCES:%=$(run)/aligned/%))
fusion := $(mix)-$(FUNCTION)-$(LEVEL)-$(WEIGHT)
targets := $(run)/targets/$(fusion)
$(targets)/manifest.json: $(aligned:%=%/manifest.json) $(target_logits)/manifest.json | $(bin)/kf-fuse
	$(bin)/kf-fuse --target $(target_logits) $(aligned:%=--aligned %) --out $(@D) \
	  --function $(FUNCTION) --level $(LEVEL) --weight $(WEIGHT) --threads $(THREADS)

# ---- train: on the fused targets, and on the same text alone (CLM) ----

training := --epochs $(EPOCHS) --lr $(LR) --batch-tokens $(BATCH) --seed $(SEED) --threads $(THREADS)
fused := $(run)/train/fused-$(fusion)-$(LAMBDA)-lr$(LR)x$(EPOCHS)
clm := $(run)/train/clm-lr$(LR)x$(EPOCHS)
$(fused)/config.json: $(targets)/manifest.json $(call model,$(TARGET)) $(run)/corpus/valid/manifest.json | $(bin)/kf-train
	$(bin)/kf-train --model $(call model,$(TARGET)) --targets $(targets) --valid $(run)/corpus/valid \
	  --out $(@D) --lambda $(LAMBDA) $(training)
# CLM needs the tokens only, so it does not depend on the sources.
$(clm)/config.json: $(target_logits)/manifest.json $(call model,$(TARGET)) $(run)/corpus/valid/manifest.json | $(bin)/kf-train
	$(bin)/kf-train --model $(call model,$(TARGET)) --targets $(target_logits) --valid $(run)/corpus/valid \
	  --out $(@D) --lambda 1 $(training)

# ---- evaluation on held-out text ----

test_models := $(sort $(SOURCES)) $(TARGET)
report := $(run)/report/$(fusion)-$(LAMBDA)-lr$(LR)x$(EPOCHS)

$(report).json: $(test_models:%=$(run)/logits/test/%/manifest.json) $(clm)/config.json $(fused)/config.json | $(bin)/kf-eval
	@mkdir -p $(@D)
	$(bin)/kf-eval --corpus $(run)/corpus/test \
	  $(foreach s,$(sort $(SOURCES)),--logits $s=$(run)/logits/test/$s) --logits target=$(run)/logits/test/$(TARGET) \
	  --model clm=$(clm) --model fused=$(fused) \
	  --compare fused,target --compare fused,clm --markdown $(report).md --report $@.tmp --threads $(THREADS) > $(report).txt
	@mv $@.tmp $@

demo: $(report).json
	@cp $(report).json $(WORK)/report.json && cp $(report).md $(WORK)/report.md
	@cat $(report).txt
	@echo "Saved as $(WORK)/report.json and $(WORK)/report.md; the fused model is the folder $(fused)"

clean-demo:
	rm -rf $(WORK)
.PHONY: clean-demo
