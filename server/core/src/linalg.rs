//! The little linear algebra that a Gaussian process needs, for n <= 64. Loops run in a fixed order and nothing is
//! fused or split over threads, so a matrix has the same factor, bit for bit, on every machine.

use ndarray::Array2;
use thiserror::Error;

/// The largest matrix that is factored.
pub const MAX_N: usize = 64;

/// Why a matrix has no factor.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum CholeskyError {
    /// It has another number of rows than of columns.
    #[error("the matrix has {rows} rows and {columns} columns")]
    NotSquare {
        /// Rows.
        rows: usize,
        /// Columns.
        columns: usize,
    },
    /// It is larger than [`MAX_N`].
    #[error("the matrix has {n} rows, at most {MAX_N} are supported")]
    TooLarge {
        /// Rows.
        n: usize,
    },
    /// An entry is NaN or infinite.
    #[error("the matrix holds a number that is not finite")]
    NotFinite,
    /// No step of the jitter ladder made it positive definite.
    #[error("the matrix is not positive definite, even with {jitter:e} added to its diagonal")]
    NotPositiveDefinite {
        /// The last jitter tried.
        jitter: f64,
    },
}

/// The lower triangular factor L of K + jitter I = L L^T.
#[derive(Debug, Clone, PartialEq)]
pub struct Cholesky {
    n: usize,
    /// Rows of L below and on the diagonal, one after another: row i starts at i (i + 1) / 2.
    packed: Vec<f64>,
    jitter: f64,
}

impl Cholesky {
    /// Factors a symmetric matrix, of which only the lower triangle is read. The jitter is 0 if that works, else
    /// 1e-10 tr(K)/n, and then ten times more, up to eight times.
    pub fn new(k: &Array2<f64>) -> Result<Self, CholeskyError> {
        let (rows, columns) = k.dim();
        if rows != columns {
            return Err(CholeskyError::NotSquare { rows, columns });
        }
        if rows > MAX_N {
            return Err(CholeskyError::TooLarge { n: rows });
        }
        if !k.iter().all(|x| x.is_finite()) {
            return Err(CholeskyError::NotFinite);
        }
        let mut factor = Self { n: rows, packed: vec![0.0; rows * (rows + 1) / 2], jitter: 0.0 };
        for jitter in jitter_ladder(k) {
            factor.jitter = jitter;
            if factor.fill(k) {
                return Ok(factor);
            }
        }
        Err(CholeskyError::NotPositiveDefinite { jitter: factor.jitter })
    }

    /// Rows of the matrix.
    pub const fn n(&self) -> usize {
        self.n
    }

    /// What was added to the diagonal.
    pub const fn jitter(&self) -> f64 {
        self.jitter
    }

    /// ln det(K + jitter I) / 2, the sum of the logarithms of L's diagonal.
    pub fn half_ln_det(&self) -> f64 {
        (0..self.n).map(|i| libm::log(self.row(i)[i])).sum()
    }

    /// Solves L x = b in place.
    ///
    /// # Panics
    /// If `b` has fewer than [`Cholesky::n`] entries.
    pub fn solve_lower(&self, b: &mut [f64]) {
        for i in 0..self.n {
            let row = self.row(i);
            let (done, rest) = b.split_at_mut(i);
            rest[0] = (rest[0] - dot(&row[..i], done)) / row[i];
        }
    }

    /// Solves (K + jitter I) x = b in place.
    ///
    /// # Panics
    /// If `b` has fewer than [`Cholesky::n`] entries.
    pub fn solve(&self, b: &mut [f64]) {
        self.solve_lower(b);
        for i in (0..self.n).rev() {
            let row = self.row(i);
            let x = b[i] / row[i];
            b[i] = x;
            for (b, l) in b[..i].iter_mut().zip(row) {
                *b -= l * x;
            }
        }
    }

    /// Row i of L, up to the diagonal.
    fn row(&self, i: usize) -> &[f64] {
        let start = i * (i + 1) / 2;
        &self.packed[start..=start + i]
    }

    /// Computes L row by row; false where a pivot is not positive.
    fn fill(&mut self, k: &Array2<f64>) -> bool {
        for (i, source) in k.rows().into_iter().enumerate() {
            let start = i * (i + 1) / 2;
            let (above, below) = self.packed.split_at_mut(start);
            let row = &mut below[..=i];
            for (to, from) in row.iter_mut().zip(source) {
                *to = *from;
            }
            row[i] += self.jitter;
            for j in 0..i {
                let other = &above[j * (j + 1) / 2..][..=j];
                row[j] = (row[j] - dot(&row[..j], other)) / other[j];
            }
            let pivot = row[i] - dot(&row[..i], &row[..i]);
            if !(pivot > 0.0 && pivot.is_finite()) {
                return false;
            }
            row[i] = pivot.sqrt();
        }
        true
    }
}

/// The sum of the products, first to last, over the shorter of the two.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b)
}

fn jitter_ladder(k: &Array2<f64>) -> impl Iterator<Item = f64> {
    let n = k.nrows().max(1) as f64;
    let first = 1e-10 * k.diag().iter().sum::<f64>() / n;
    let steps = std::iter::successors(Some(first), |jitter| Some(jitter * 10.0)).take(9);
    std::iter::once(0.0).chain(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;
    use proptest::prelude::*;

    #[test]
    fn a_known_factor() {
        let k = array![[4.0, 12.0, -16.0], [12.0, 37.0, -43.0], [-16.0, -43.0, 98.0]];
        let factor = Cholesky::new(&k).unwrap();
        assert_eq!(factor.packed, [2.0, 6.0, 1.0, -8.0, 5.0, 3.0]);
        assert_eq!((factor.n(), factor.jitter()), (3, 0.0));
        assert!((factor.half_ln_det() - 6.0_f64.ln()).abs() < 1e-15);
    }

    #[test]
    fn a_singular_matrix_is_factored_with_the_least_jitter_that_works() {
        let factor = Cholesky::new(&Array2::from_elem((6, 6), 2.0)).unwrap();
        assert!(factor.jitter() > 0.0 && factor.jitter() <= 2e-8, "{}", factor.jitter());
    }

    #[test]
    fn what_has_no_factor_says_why() {
        let indefinite = array![[1.0, 2.0], [2.0, 1.0]];
        let last = 1e-10 * 1e8;
        match Cholesky::new(&indefinite) {
            Err(CholeskyError::NotPositiveDefinite { jitter }) => assert!((jitter - last).abs() < 1e-12),
            other => panic!("{other:?}"),
        }
        assert_eq!(Cholesky::new(&array![[f64::NAN]]), Err(CholeskyError::NotFinite));
        assert_eq!(
            Cholesky::new(&Array2::zeros((2, 3))),
            Err(CholeskyError::NotSquare { rows: 2, columns: 3 })
        );
        assert_eq!(Cholesky::new(&Array2::eye(65)), Err(CholeskyError::TooLarge { n: 65 }));
        assert!(Cholesky::new(&Array2::eye(64)).is_ok());
        assert!(Cholesky::new(&Array2::zeros((0, 0))).is_ok());
    }

    proptest! {
        #[test]
        fn solving_undoes_multiplying(
            n in 1usize..12,
            entries in prop::collection::vec(-1.0..1.0f64, 144),
            x in prop::collection::vec(-1.0..1.0f64, 12),
        ) {
            let a = Array2::from_shape_fn((n, n), |(i, j)| entries[i * 12 + j]);
            let k = Array2::from_shape_fn((n, n), |(i, j)| {
                (0..n).map(|p| a[[i, p]] * a[[j, p]]).sum::<f64>() + if i == j { 0.1 } else { 0.0 }
            });
            let mut b: Vec<f64> = (0..n).map(|i| (0..n).map(|j| k[[i, j]] * x[j]).sum()).collect();
            Cholesky::new(&k).unwrap().solve(&mut b);
            for i in 0..n {
                prop_assert!((b[i] - x[i]).abs() < 1e-10, "{} against {}", b[i], x[i]);
            }
        }
    }
}
