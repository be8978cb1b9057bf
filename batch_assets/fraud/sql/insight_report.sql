-- Grain: day and customer, the first ten. View: daily_risk_report.
SELECT * FROM daily_risk_report WHERE rank <= 10 ORDER BY day, rank
