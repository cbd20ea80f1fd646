"""Evaluation: results of patients, their statistics, tables, plots and pages."""
