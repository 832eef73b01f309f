"""A simple service of SASRec in PyTorch with FastAPI, one request at a time, with random parameters.

.rivals/torch_service/bin/python -m benchmarks.rivals.torch_service --port=N --items=V --features=D --length=L
"""

import argparse

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.torch_backbone import SASRec


class Asked(BaseModel):
    """The body of `POST /recommend`."""

    histories: list[list[int]]
    k: int = 10


def create_app(num_items: int, features: int, length: int, num_layers: int) -> FastAPI:
    """The service."""
    torch.manual_seed(0)
    items = torch.nn.Embedding(num_items + 1, features)  # the last row is for padding
    model = SASRec(features, length, num_layers, num_heads=1, dropout=0.0).eval()
    titles = [f"Item number {n}" for n in range(num_items)]
    app = FastAPI()

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/recommend")
    async def recommend(asked: Asked) -> dict[str, list]:
        results = []
        with torch.no_grad():
            for history in asked.histories:
                newest = history[-length:]
                padded = torch.tensor([newest + [num_items] * (length - len(newest))])
                state = model(items(padded))[0, len(newest) - 1]
                scores = items.weight[:num_items] @ state
                scores[history] = -torch.inf
                top = torch.topk(scores, asked.k)
                results.append(
                    [
                        {"item": row, "title": titles[row], "score": score}
                        for row, score in zip(
                            top.indices.tolist(), top.values.tolist(), strict=True
                        )
                    ]
                )
        return {"results": results}

    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--layers", type=int, default=2)
    given = parser.parse_args()
    app = create_app(given.items, given.features, given.length, given.layers)
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
