"""What the front ends share: options, worker and its messages, a review session, the state of the installation."""
