"""The config of a run: frozen dataclasses, one a section, whose fields say what they are.

data.py knowledge.py model.py training.py   the sections and their fields
config.py    the whole: `Config`, and fields by their names
fields.py    how a field is declared; checks.py: what it must be; rules.py: what must fit together
stored.py    the config.json of a workdir
draft.py     the mutable form that the files in `configs/` fill in
"""

from grasp_jax.config.config import (
    FIELDS,
    Config,
    resolve_field,
    resolve_source,
    unknown_field,
    value_of,
)
from grasp_jax.config.data import (
    AmazonConfig,
    ColumnsConfig,
    DataConfig,
    SyntheticConfig,
)
from grasp_jax.config.draft import default_config
from grasp_jax.config.fields import (
    BANK,
    NOTHING,
    TRIAL,
    About,
    Affects,
    Section,
    field,
    flatten,
    names,
)
from grasp_jax.config.knowledge import (
    AuditConfig,
    CorruptionConfig,
    KnowledgeConfig,
    ReductionConfig,
)
from grasp_jax.config.model import LlmEsrConfig, ModelConfig, PlusConfig, RlmRecConfig
from grasp_jax.config.stored import (
    CONFIG_FILE,
    as_changes,
    check_workdir,
    config_difference,
    identity,
    matters,
    read_config,
    save_config,
    to_json,
    upgraded,
)
from grasp_jax.config.text_models import DescribeConfig, EmbedConfig, LocalConfig, SentenceConfig
from grasp_jax.config.training import (
    EvalConfig,
    MeshConfig,
    PlanConfig,
    RecommendConfig,
    TablesConfig,
    TrainConfig,
)

__all__ = [
    "BANK",
    "CONFIG_FILE",
    "FIELDS",
    "NOTHING",
    "TRIAL",
    "About",
    "Affects",
    "AmazonConfig",
    "AuditConfig",
    "ColumnsConfig",
    "Config",
    "CorruptionConfig",
    "DataConfig",
    "DescribeConfig",
    "EmbedConfig",
    "EvalConfig",
    "KnowledgeConfig",
    "LlmEsrConfig",
    "LocalConfig",
    "MeshConfig",
    "ModelConfig",
    "PlanConfig",
    "PlusConfig",
    "RecommendConfig",
    "ReductionConfig",
    "RlmRecConfig",
    "Section",
    "SentenceConfig",
    "SyntheticConfig",
    "TablesConfig",
    "TrainConfig",
    "as_changes",
    "check_workdir",
    "config_difference",
    "default_config",
    "field",
    "flatten",
    "identity",
    "matters",
    "names",
    "read_config",
    "resolve_field",
    "resolve_source",
    "save_config",
    "to_json",
    "unknown_field",
    "upgraded",
    "value_of",
]
