# %% [markdown]
# # Serve a model
#
# This tutorial trains a model, saves it, serves it by HTTP, and adds a new item. It needs `pip install '.[serve]'`.

# %%
import atexit
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import grasp_jax as gj

shop = gj.Dataset.synthetic(num_users=300, num_items=200)
small = {"features": 16, "mlp": (32,), "knowledge__width": 32, "max_epochs": 3}
model = gj.Recommender(method="grasp_plus", dropout=0.3, **small).fit(shop)
folder = pathlib.Path(tempfile.mkdtemp()) / "model"
model.save(folder)

# %% [markdown]
# ## Start the service
#
# In a terminal you write `grasp-serve model/ --port=8000`; here the script starts it, on a free port. Without a token, the service answers
# on this machine only ([Serving](../serving.md#security)).

# %%
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
command = [sys.executable, "-m", "grasp_jax.serving.http.cli", str(folder), f"--port={port}"]
service = subprocess.Popen([*command, "--batch-sizes=1,8", "--lengths=16", "--quiet"])
atexit.register(service.kill)  # if a line below fails, the service does not stay


def ask(path, body=None):
    """The answer of the service as JSON."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def ready():
    """Whether the model answers: until its programs are compiled, the service says 503."""
    try:
        return bool(ask("/ready"))
    except urllib.error.URLError:
        return False


for _ in range(1200):
    if ready() or service.poll() is not None:
        break
    time.sleep(0.5)

# %% [markdown]
# ## Ask
#
# A history, oldest item first, stands for a person. `why` adds the items of the history that are most like each recommendation.

# %%
some = shop.item_ids[:2].tolist()
answer = ask("/recommend", {"histories": [some], "k": 3, "why": 1})
for item in answer["results"][0]["items"]:
    print(f"{item['title']}, because of {item['why'][0]['title']}")

# %% [markdown]
# ## A new item, without training
#
# `PUT /items` adds an item by its text. From then on it can be recommended.

# %%
print(ask("/items?search=soap&k=2"))
new = {"item": 100_001, "title": "Mild lavender soap bar", "attributes": "Bath and Body"}
request = urllib.request.Request(
    f"http://127.0.0.1:{port}/items",
    data=json.dumps({"items": [new]}).encode(),
    headers={"content-type": "application/json"},
    method="PUT",
)
print(urllib.request.urlopen(request, timeout=120).status)

# %% [markdown]
# ## Stop
#
# On SIGTERM the service answers what it has begun, and ends.

# %%
service.terminate()
print("exit status", service.wait(timeout=60))

# %% [markdown]
# ## Next
#
# * [Serving](../serving.md): all requests, limits, security, metrics, Docker and Kubernetes.
# * [Exported models](../export.md): answers without this package, or from a vector database.
