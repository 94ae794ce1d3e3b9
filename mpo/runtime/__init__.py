"""What any program of this kind needs: processes, progress, seeds."""
