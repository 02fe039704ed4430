"""modality_balance: options against one modality holding back the other in joint training."""
