"""What every training run needs: recipe, checkpoint, processes, log, monitor, command line."""
