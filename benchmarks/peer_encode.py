"""Run by a Python that has sentence-transformers: a line on standard input is a turn, told in processor seconds."""

import json
import sys
import time
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

if __name__ == "__main__":
    torch.set_num_threads(1)
    model = SentenceTransformer(sys.argv[1], device="cpu")
    model.max_seq_length = 32
    texts = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    for _ in sys.stdin:
        start = time.process_time()
        model.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
        print(time.process_time() - start, flush=True)
