"""World knowledge: prompts -> descriptions -> embeddings -> neighbours -> one frozen `KnowledgeBank` on disk."""
