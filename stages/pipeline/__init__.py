"""What the data stages share: params, shards, the runner, the reuse store, quarantine, errors."""
