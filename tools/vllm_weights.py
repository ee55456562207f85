"""Rewrites a GGUF file as safetensors, which vLLM reads, with transformers. Run by the python of vLLM's environment.

    python tools/vllm_weights.py FILE.gguf FOLDER

For tests on machines that have the GGUF and no model hub: the weights are those of the quantised file, in bfloat16.
FOLDER appears whole or not at all.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def rewrite(gguf: Path, folder: Path) -> None:
    making = folder.with_name(f"{folder.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
    # They are plain numbers by now, and must not be saved as if they were still quantised.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    model.save_pretrained(making)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(making)
    making.rename(folder)


if __name__ == "__main__":
    rewrite(Path(sys.argv[1]), Path(sys.argv[2]))
